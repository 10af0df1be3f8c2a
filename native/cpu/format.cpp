#include "format.h"

namespace moe {

Format formatOf(const std::string& name) {
  if (name == "bf16") return bf16;
  if (name == "q8") return q8;
  if (name == "q4") return q4;
  return plain;
}

double bytesOf(const Tensor& tensor) {
  double bytes = sizeof(float);
  if (tensor.format == plain) {
    for (int axis = 0; axis < tensor.rank; axis++) bytes *= static_cast<double>(tensor.shape[axis]);
    return bytes;
  }
  if (tensor.rank < 2) return -1;
  const int64_t rows = tensor.shape[tensor.rank - 2], width = tensor.shape[tensor.rank - 1];
  if (tensor.format != bf16 && width % 32 != 0) return -1;
  const int64_t strip = tensor.format == bf16 ? (width + 1) / 2 * 64 : width / 32 * (tensor.format == q8 ? 544 : 288);
  bytes = static_cast<double>((rows + 15) / 16) * static_cast<double>(strip);
  for (int axis = 0; axis < tensor.rank - 2; axis++) bytes *= static_cast<double>(tensor.shape[axis]);
  return bytes;
}

}  // namespace moe
