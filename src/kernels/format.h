// What one value becomes, and comes back from: the only definition of each format's elements. The
// scalar references, the last values of the vector kernels and the kernels of devices call it.
//
// Every result is the same on every machine, if no multiplication is contracted with an addition:
// -ffp-contract=off, and for nvcc -fmad=false --expt-relaxed-constexpr.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "src/base/random.h"

#ifdef __CUDACC__
#define LGRECO_HD __host__ __device__
#else
#define LGRECO_HD
#endif

namespace lgreco::kernels {

// -- bf16 and fp16, by their bits. ----------------------------------------------------------------

LGRECO_HD constexpr float bf16_value(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// To nearest, ties to even. NaN stays NaN, overflow becomes infinity; f16_of() alike.
LGRECO_HD constexpr std::uint16_t bf16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

/// Towards minus infinity, for range headers that must enclose. REQUIRES: finite value. The result
/// may be infinite.
LGRECO_HD constexpr std::uint16_t bf16_below(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto truncated = static_cast<std::uint16_t>(bits >> 16);
  // Truncation moves towards zero: down for positive values, up for negative ones.
  const bool negative_and_inexact = (bits >> 31) != 0 && (bits & 0xFFFFu) != 0;
  return static_cast<std::uint16_t>(truncated + (negative_and_inexact ? 1 : 0));
}

/// Towards plus infinity.
LGRECO_HD constexpr std::uint16_t bf16_above(float value) {
  return static_cast<std::uint16_t>(bf16_below(-value) ^ 0x8000u);
}

LGRECO_HD constexpr float f16_value(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) {  // infinity or NaN
    return std::bit_cast<float>(sign | 0x7F800000u | ((magnitude & 0x3FFu) << 13));
  }
  if (magnitude < 0x400u) {
    const float value = static_cast<float>(magnitude) * 0x1.0p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
}

LGRECO_HD constexpr std::uint16_t f16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return sign | 0x7E00u;
  if (magnitude >= 0x477FF000u) return sign | 0x7C00u;  // rounds to 2^16 or more
  if (magnitude < 0x38800000u) {                        // below 2^-14: a subnormal half
    // Adding 0.5 leaves the value in units of 2^-24 in the low bits, rounded to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign + (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000u));
  }
  const std::uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign + ((rounded - 0x38000000u) >> 13));
}

/// Little-endian; payloads may start at any address.
LGRECO_HD constexpr std::uint16_t read_16(const std::uint8_t* from) {
  return static_cast<std::uint16_t>(from[0] | from[1] << 8);
}
LGRECO_HD constexpr void write_16(std::uint16_t bits, std::uint8_t* to) {
  to[0] = static_cast<std::uint8_t>(bits);
  to[1] = static_cast<std::uint8_t>(bits >> 8);
}

// -- Codes of 1 to 8 bits in a string: code i occupies bits [i * bits, (i + 1) * bits), lowest bits
//    first, so that 8 codes are whole bytes.
//    --------------------------------------------------------

constexpr std::size_t kCodesInGroup = 8;

LGRECO_HD constexpr std::size_t packed_bytes(std::size_t count, int bits) {
  return (count * static_cast<std::size_t>(bits) + 7) / 8;
}

/// Packs `count` codes, of at most one group; calls `code_of(i)` for each, in order. The spare high
/// bits of the last byte are 0. `group` is where the group begins.
template <typename CodeOf>
LGRECO_HD constexpr void pack_group(std::size_t count, int bits, std::uint8_t* group,
                                    const CodeOf& code_of) {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < count; ++i) {
    word |= std::uint64_t{code_of(i)} << (i * static_cast<std::size_t>(bits));
  }
  for (std::size_t byte = 0; byte < packed_bytes(count, bits); ++byte) {
    group[byte] = static_cast<std::uint8_t>(word >> (8 * byte));
  }
}

/// Code `i` of a whole string.
LGRECO_HD constexpr unsigned code_at(const std::uint8_t* packed, int bits, std::size_t i) {
  const auto width = static_cast<std::size_t>(bits);
  const std::size_t bit = i * width;
  unsigned word = packed[bit / 8];
  if (bit % 8 + width > 8) word |= unsigned{packed[bit / 8 + 1]} << 8;
  return (word >> (bit % 8)) & ((1u << bits) - 1u);
}

// -- Uniform grids. -------------------------------------------------------------------------------

struct Range {
  float low;
  float high;
};

/// 2^bits values, code - below steps from zero: steps of `unit_below` under it, of `unit_above`
/// over it. Code `below` is exactly zero.
struct Grid {
  int bits;   // 1 to 8
  int below;  // values under zero, 0 to 2^bits - 1
  float unit_below;
  float unit_above;

  LGRECO_HD constexpr int above() const { return (1 << bits) - 1 - below; }  // values over zero
  LGRECO_HD constexpr float unit(bool is_below) const { return is_below ? unit_below : unit_above; }
};

/// With unit = grid.unit(value < 0), below + clamp(floor(value / unit + u), -below, above()), where
/// u is 0.5, or uniform(*stream, index) when `stream` is given. So a zero gets the code of zero,
/// whatever is drawn. REQUIRES: units >= 0; no value but zero on a side whose unit is 0.
LGRECO_HD inline std::uint8_t code_of(float value, const Grid& grid, const RandomStream* stream,
                                      std::uint32_t index) {
  const float u = stream == nullptr ? 0.5f : uniform(*stream, index);
  const float unit = grid.unit(value < 0);
  const float steps = unit == 0 ? 0 : std::floor(value / unit + u);
  const auto below = static_cast<float>(grid.below), above = static_cast<float>(grid.above());
  return static_cast<std::uint8_t>(below + std::clamp(steps, -below, above));
}

LGRECO_HD constexpr float value_of(unsigned code, const Grid& grid) {
  const int steps = static_cast<int>(code) - grid.below;
  return static_cast<float>(steps) * grid.unit(steps < 0);
}

// -- Lloyd-Max grids. -----------------------------------------------------------------------------

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

  /// 1 / scale, or the largest number where that overflows.
  LGRECO_HD constexpr float inverse() const {
    return std::min(1.0f / scale, std::numeric_limits<float>::max());
  }
};

/// What a grid's magnitudes are for scale 1 and offset 0, both ascending.
struct LloydMaxLevels {
  std::span<const float> magnitudes;  // 2^(bits - 1)
  std::span<const float> thresholds;  // one fewer: between them
};

/// The levels of all grids, wherever they lie: on the host lloyd_max_table(), on a device a copy.
struct LloydMaxTable {
  static constexpr std::size_t kLaws = 4;
  static constexpr int kMostBits = 8;
  /// Of one law, without or with zero: those of 1 to 8 bits, one after the other.
  static constexpr std::size_t kOfLaw = (std::size_t{1} << kMostBits) - 1;
  static constexpr std::size_t kFloats = kLaws * 2 * kOfLaw;

  const float* magnitudes;  // kFloats
  const float* thresholds;  // kFloats: behind magnitude i is threshold i, behind last ones none

  LGRECO_HD static constexpr std::size_t count_of(int bits) { return std::size_t{1} << (bits - 1); }
  LGRECO_HD static constexpr std::size_t first_of(int bits) { return count_of(bits) - 1; }

  LGRECO_HD constexpr LloydMaxLevels levels(Law law, bool has_zero, int bits) const {
    const std::size_t of_law = (2 * static_cast<std::size_t>(law) + (has_zero ? 1 : 0)) * kOfLaw;
    const std::size_t first = of_law + first_of(bits), count = count_of(bits);
    return {{magnitudes + first, count}, {thresholds + first, count - 1}};
  }
  LGRECO_HD constexpr LloydMaxLevels levels(const LloydMaxGrid& grid) const {
    return levels(grid.law, grid.has_zero, grid.bits);
  }
};

/// What the largest magnitude stands for; may be infinite.
LGRECO_HD constexpr float largest_of(const LloydMaxGrid& grid, const LloydMaxLevels& levels) {
  return levels.magnitudes.back() * grid.scale + grid.offset;
}

/// A magnitude in units of the scale.
LGRECO_HD inline float units_of(float value, const LloydMaxGrid& grid) {
  return (std::abs(value) - grid.offset) * grid.inverse();
}

/// How many thresholds are at most `units`.
LGRECO_HD constexpr std::size_t magnitude_index_of(float units, const LloydMaxLevels& levels) {
  const float* first = levels.thresholds.data();
  const float* last = first + levels.thresholds.size();
  return static_cast<std::size_t>(std::upper_bound(first, last, units) - first);
}

/// The index of the magnitude of units_of(value), plus 2^(bits - 1) where the sign bit is set.
/// REQUIRES: value finite, scale > 0, offset finite and >= 0; `levels` are the grid's.
LGRECO_HD inline std::uint8_t code_of(float value, const LloydMaxGrid& grid,
                                      const LloydMaxLevels& levels) {
  const std::size_t sign = std::signbit(value) ? levels.magnitudes.size() : 0;
  return static_cast<std::uint8_t>(sign + magnitude_index_of(units_of(value, grid), levels));
}

LGRECO_HD constexpr float value_of(unsigned code, const LloydMaxGrid& grid,
                                   const LloydMaxLevels& levels) {
  const std::size_t count = levels.magnitudes.size();
  const float magnitude = levels.magnitudes[code % count] * grid.scale + grid.offset;
  return code < count ? magnitude : -magnitude;
}

}  // namespace lgreco::kernels
