// What every vector file needs before Highway's foreach_target.h.
//
// Vectors of a length unknown at compile time cannot be kept in arrays, which the fixed orders of
// summation need; those targets use the next fixed-size one. On AVX3_DL, which a compiler told to
// use all of such a CPU would take, Highway 1.0.3 truncates to bytes wrongly.
#pragma once

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_AVX3_DL)
