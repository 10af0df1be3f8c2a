// The processor's own vector operations, for what vector extensions of compilers cannot say: permutations, masks, bf16.
// Its functions are always inlined, so no copy of one instruction set can end up in another's code.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes its own idiom for an undefined vector for a mistake (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
