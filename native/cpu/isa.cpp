#include "isa.h"

#include "kernels/table.h"

#if defined(MOE_HAS_X86) && defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#endif

namespace moe {
namespace {

#if defined(MOE_HAS_X86)

struct Features {
  bool avx2, avx512, vnni, bf16;
};

#if defined(_MSC_VER)

#if defined(__clang__)
#define MOE_READS_XCR __attribute__((target("xsave")))
#else
#define MOE_READS_XCR
#endif

// Feature bits of leaves 1 and 7, and the register state that the operating system saves.
MOE_READS_XCR Features detect() {
  int leaf1[4], leaf7[4];
  __cpuidex(leaf1, 1, 0);
  __cpuidex(leaf7, 7, 0);
  const bool fma = leaf1[2] >> 12 & 1, osxsave = leaf1[2] >> 27 & 1;
  const unsigned long long saved = osxsave ? _xgetbv(0) : 0;
  const unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
  const bool avx2 = fma && (saved & 0x6) == 0x6 && (leaf7[1] >> 5 & 1);
  const bool avx512 = avx2 && (saved & 0xe6) == 0xe6 && (static_cast<unsigned>(leaf7[1]) & wanted) == wanted;
  return {avx2, avx512, avx512 && (leaf7[2] >> 11 & 1), false};
}

#else

Features detect() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  return {avx2, avx512, vnni, vnni && __builtin_cpu_supports("avx512bf16")};
}

#endif
#endif

}  // namespace

std::vector<const KernelSet*> supportedKernelSets() {
  std::vector<const KernelSet*> sets;
#if defined(MOE_HAS_X86)
  const Features features = detect();
#if defined(MOE_HAS_BF16)
  if (features.bf16) sets.push_back(&avx512bf16::kernelSet);
#endif
  if (features.vnni) sets.push_back(&avx512vnni::kernelSet);
  if (features.avx512) sets.push_back(&avx512::kernelSet);
  if (features.avx2) sets.push_back(&avx2::kernelSet);
#endif
  sets.push_back(&portable::kernelSet);
  return sets;
}

}  // namespace moe
