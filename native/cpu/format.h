// Names and sizes of the forms a tensor may have; how packed ones lie is said in core/backend/packed.ts.
#pragma once

#include <string>

#include "args.h"

namespace moe {

// The packed form of that name; plain when there is none.
Format formatOf(const std::string& name);

// Bytes of a tensor, or -1 when it is packed and its shape is not that of matrices of whole blocks. A double, because shapes are
// checked one size at a time and their product may be beyond any memory.
double bytesOf(const Tensor& tensor);

}  // namespace moe
