// The kernel tables the build can hold; which of them exist is binding.gyp's choice (MOE_HAS_*).
#pragma once

#include "../args.h"

namespace moe {

namespace portable {
extern const KernelSet kernelSet;
}
namespace avx2 {
extern const KernelSet kernelSet;
}
namespace avx512 {
extern const KernelSet kernelSet;
}
namespace avx512bf16 {
extern const KernelSet kernelSet;
}
namespace avx512vnni {
extern const KernelSet kernelSet;
}

}  // namespace moe
