// What a grid's scale and law are chosen from.
#pragma once

#include <cstddef>

namespace lgreco::kernels {

/// Of the magnitudes that are not zero, in units of `unit`, a power of two that is 1 unless squares
/// would overflow or vanish.
struct Moments {
  std::size_t count;  // not zero
  float unit;
  float largest;
  float sum;
  float sum_squares;
};

/// 16 running sums in fp32 (value i goes to sum i mod 16), folded pairwise in halves; every variant
/// gives the same bits. False when a value is not finite, with `moments` unspecified.
bool moments_of(const float* values, std::size_t count, Moments& moments);

/// values += addend (nullptr: nothing), then their moments.
bool add_and_find_moments(const float* addend, std::size_t count, float* values, Moments& moments);

}  // namespace lgreco::kernels
