// Which of the compiled kernel sets this processor (and its operating system) can run.
#pragma once

#include <vector>

#include "args.h"

namespace moe {

// Best first; never empty: the portable set runs everywhere.
std::vector<const KernelSet*> supportedKernelSets();

}  // namespace moe
