// Quantisation of values to the nearest level of a Lloyd-Max grid, packed without gaps.
//
// A grid has a sign and 2^(bits - 1) magnitudes, which are closest where the law that it is made
// for has most of its values (Lloyd 1982, Max 1960). Every variant gives the same bits as the
// scalar reference.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "src/kernels/pack_codes.h"
#include "src/kernels/quantize.h"

namespace lgreco::kernels {

/// Laws of values around zero, of unit variance: density exp(-|x / a|^p) with p = 2, 1, 1/2, 1/3.
/// The magnitudes of `laplace` are those of the exponential law of mean 1 / sqrt(2), too.
enum class Law : std::uint8_t { normal = 0, laplace = 1, heavy = 2, heaviest = 3 };

struct LloydMaxGrid {
  int bits;  // 1 to 8, of which one is the sign
  Law law;
  /// Whether the first magnitude is zero; the others are the best then for 2^bits - 1 levels.
  bool has_zero;
  float scale;
  /// Added to every magnitude: the law begins there.
  float offset = 0;

  /// For scale 1 and offset 0, ascending.
  std::span<const float> magnitudes() const;
  /// What the largest magnitude stands for; may be infinite.
  float largest() const { return magnitudes().back() * scale + offset; }
  /// 1 / scale, or the largest number where that overflows.
  float inverse() const { return std::min(1.0f / scale, std::numeric_limits<float>::max()); }
};

/// With y = (|x| - offset) * inverse(), each rounded (no FMA), the code is the number of thresholds
/// between magnitudes that are at most y, plus 2^(bits - 1) where the sign bit of x is set.
/// Thresholds lie midway but for less than 2^-16 of them. Writes packed_bytes(count, bits) bytes;
/// the spare high bits of the last byte are 0. REQUIRES: values finite, scale > 0, offset finite
/// and >= 0.
void lloyd_max_pack(const float* values, std::size_t count, const LloydMaxGrid& grid,
                    std::uint8_t* packed);

/// The same; leaves in `values` what the codes do not say: x minus what unpacking adds to zero.
void lloyd_max_pack_keep_loss(float* values, std::size_t count, const LloydMaxGrid& grid,
                              std::uint8_t* packed, const Upcoming& upcoming);

/// accumulator[i] += the value of code i: its magnitude * scale, rounded, plus offset, rounded,
/// with its sign (no FMA). Any codes are possible. REQUIRES: scale and offset finite and >= 0.
void lloyd_max_unpack_add(const std::uint8_t* packed, std::size_t count, const LloydMaxGrid& grid,
                          float* accumulator);

/// The sum over the values of the squared difference between y and its magnitude: what the grid
/// loses, in squares of the scale. 16 running sums in fp32 (value i goes to sum i mod 16), folded
/// pairwise in halves; sums of more than some thousand values lose precision.
/// REQUIRES: as lloyd_max_pack().
float lloyd_max_loss(const float* values, std::size_t count, const LloydMaxGrid& grid);

}  // namespace lgreco::kernels
