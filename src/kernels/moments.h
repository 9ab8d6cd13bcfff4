// What a grid's scale and law are chosen from.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "src/kernels/format.h"

namespace lgreco::kernels {

/// Of the magnitudes that are not zero, in units of `unit`, a power of two that is 1 unless squares
/// would overflow or vanish.
struct Moments {
  std::size_t count;  // not zero
  float unit;
  float largest;
  float sum;
  float sum_squares;

  /// Of the values themselves, if the unit is 1.
  LGRECO_HD bool are_finite() const { return !std::isnan(sum) && std::isfinite(largest); }
  /// Whether the unit suits the values. Else, if these are finite, sum again, in units of
  /// unit_of(largest): squares overflow, or of values that matter lose digits. REQUIRES: unit 1.
  LGRECO_HD bool suit() const {
    constexpr float kLeast = 0x1p-40f;
    return std::isfinite(sum_squares) && (largest >= kLeast || count == 0);
  }
};

/// The power of two in `largest`; not less than 2^-126, whose inverse would overflow.
/// REQUIRES: finite, > 0.
LGRECO_HD constexpr float unit_of(float largest) {
  constexpr std::uint32_t kExponent = 0x7F800000u, kLeast = 0x00800000u;
  return std::bit_cast<float>(std::max(std::bit_cast<std::uint32_t>(largest) & kExponent, kLeast));
}

/// 16 running sums: value i goes to sum i mod 16. They are folded pairwise in halves, the order
/// that every vector width can follow.
struct MomentSums {
  static constexpr std::size_t kSums = 16;

  float largest[kSums];
  float sum[kSums];
  float squares[kSums];
  std::int32_t zeros[kSums];

  LGRECO_HD void clear(std::size_t s) {
    largest[s] = sum[s] = squares[s] = 0;
    zeros[s] = 0;
  }
  LGRECO_HD void take(std::size_t s, float value, float per_unit) {
    const float magnitude = std::abs(value) * per_unit;
    largest[s] = std::max(largest[s], magnitude);
    sum[s] += magnitude;
    squares[s] += magnitude * magnitude;
    zeros[s] += value == 0 ? 1 : 0;
  }
  /// Of `count` values. The sums are used up.
  LGRECO_HD Moments fold(std::size_t count, float unit) {
    for (std::size_t half = kSums / 2; half > 0; half /= 2) {
      for (std::size_t s = 0; s < half; ++s) {
        largest[s] = std::max(largest[s], largest[s + half]);
        sum[s] += sum[s + half];
        squares[s] += squares[s + half];
        zeros[s] += zeros[s + half];
      }
    }
    return {count - static_cast<std::size_t>(zeros[0]), unit, largest[0], sum[0], squares[0]};
  }
};

/// By MomentSums, so that every variant gives the same bits. False when a value is not finite, with
/// `moments` unspecified.
bool moments_of(const float* values, std::size_t count, Moments& moments);

/// values += addend (nullptr: nothing), then their moments.
bool add_and_find_moments(const float* addend, std::size_t count, float* values, Moments& moments);

}  // namespace lgreco::kernels
