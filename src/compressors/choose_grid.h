// Which Lloyd-Max grid is the best for some values, and how its 2 bytes in a payload say it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>

#include "src/kernels/format.h"
#include "src/kernels/moments.h"

namespace lgreco {

/// Of a header: the upper half of an fp32 whose mantissa is cut to 5 bits, in whose sign and last
/// two bits there is something else.
struct GridHeader {
  static constexpr unsigned kZeroBit = 0x8000, kLawBits = 0x0003, kScaleBits = 0x7FFC;
  /// From one scale that a header holds to the next.
  static constexpr std::uint32_t kScaleStep = 1u << 18;
};

/// To the nearest that a header holds; not to zero. The result may be infinite.
LGRECO_HD constexpr float rounded_scale(float scale) {
  constexpr std::uint32_t kStep = GridHeader::kScaleStep;
  const auto bits = std::bit_cast<std::uint32_t>(scale);
  const std::uint32_t rounded = (bits + kStep / 2 - 1 + (bits / kStep & 1)) & ~(kStep - 1);
  return std::bit_cast<float>(std::max(rounded, kStep));
}

/// Rules may ask for a grid that reaches far beyond the values, of which fp32 cannot hold the ends.
LGRECO_HD constexpr kernels::LloydMaxGrid within_fp32(kernels::LloydMaxGrid grid,
                                                      const kernels::LloydMaxTable& table) {
  constexpr float kMost = std::numeric_limits<float>::max();
  const float most = kMost / std::max(table.levels(grid).magnitudes.back(), 1.0f);
  if (grid.scale <= most) return grid;
  grid.scale =
      std::bit_cast<float>(std::bit_cast<std::uint32_t>(most) & ~(GridHeader::kScaleStep - 1));
  return grid;
}

/// scale = max(rms * `rms` + mean * `mean` + top * `largest`, top * `least`), of the magnitudes'
/// root of the mean square, mean, and top: the largest, where it is the scale that makes it the
/// largest of the grid.
struct ScaleRule {
  float rms, largest, mean, least;
};

/// Heavier laws where mean / rms is below `ratios`.
struct GridRules {
  float ratios[3];
  ScaleRule scales[4];
};

/// Found by search over buckets of normal, Laplace, Student, uniform and log-normally scaled
/// values. REQUIRES: 2 <= bits <= 8.
LGRECO_HD inline const GridRules& rules_of(int bits, bool has_zero) {
  static constexpr GridRules kRules[] = {
      {{.74f, .64f, .54f},
       {{2.59f, 0, -1.98f, 0}, {2.55f, -.01f, -2.11f, 0}, {.76f, .12f, 0, 0}, {.47f, .26f, 0, 0}}},
      {{.76f, .68f, .52f},
       {{3.34f, .13f, -3.19f, 0}, {1.32f, .27f, -1.02f, 0}, {.08f, .65f, 0, 0}, {0, .85f, 0, 0}}},
      {{.76f, .68f, .38f},
       {{.6f, 0, 0, .85f}, {.6f, 0, 0, .9f}, {.3f, 0, 0, .95f}, {.3f, 0, 0, .95f}}},
      {{.74f, .58f, .32f}, {{.7f, 0, 0, .95f}, {.5f, 0, 0, 1}, {.3f, 0, 0, 1}, {.3f, 0, 0, 1}}},
      {{.72f, .52f, .36f}, {{.8f, 0, 0, 1}, {.9f, 0, 0, 1}, {.9f, 0, 0, 1}, {.9f, 0, 0, .7f}}},
      {{.72f, .58f, .40f},
       {{.8f, 0, 0, 1.1f}, {.85f, 0, 0, 1.2f}, {.85f, 0, 0, 1.3f}, {1, 0, 0, .7f}}},
      {{.74f, .60f, .44f},
       {{.8f, 0, 0, 1.2f}, {.95f, 0, 0, 1.3f}, {1, 0, 0, .7f}, {.8f, 0, 0, .7f}}}};
  static constexpr GridRules kThreeLevels = {
      {.70f, .68f, .50f},
      {{2.46f, 0, -1.73f, 0}, {1.1f, 0, 0, 0}, {2.91f, 0, -2.9f, .2f}, {1.83f, .41f, -3.69f, .2f}}};
  return bits == 2 && has_zero ? kThreeLevels : kRules[bits - 2];
}

/// The grid that loses little of values with these moments. REQUIRES: moments.count > 0; 2 bits at
/// least when it is to have a zero.
LGRECO_HD inline kernels::LloydMaxGrid choose_grid(const kernels::Moments& moments, bool has_zero,
                                                   int bits, const kernels::LloydMaxTable& table) {
  constexpr float kLargestRatio = .87f;  // mean / rms of what the rules were found with
  const auto count = static_cast<float>(moments.count);
  const float rms = std::sqrt(moments.sum_squares / count);
  const float mean = moments.sum / count;
  kernels::LloydMaxGrid grid{bits, kernels::Law::normal, has_zero, 0};
  if (bits == 1) {  // without zero: the sign
    grid.scale = rounded_scale(mean / table.levels(grid).magnitudes[0] * moments.unit);
    return within_fp32(grid, table);
  }
  const GridRules& rules = rules_of(bits, has_zero);
  const auto law = std::count_if(std::begin(rules.ratios), std::end(rules.ratios),
                                 [&](float ratio) { return mean < ratio * rms; });
  grid.law = static_cast<kernels::Law>(law);
  const ScaleRule& rule = rules.scales[law];
  const float top = moments.largest / table.levels(grid).magnitudes.back();
  const float scale =
      rms * rule.rms + std::min(mean, kLargestRatio * rms) * rule.mean + top * rule.largest;
  grid.scale = rounded_scale(std::max(scale, top * rule.least) * moments.unit);
  return within_fp32(grid, table);
}

/// Law, scale and zero of a grid made by choose_grid().
LGRECO_HD constexpr std::uint16_t header_of(const kernels::LloydMaxGrid& grid) {
  const std::uint32_t scale = std::bit_cast<std::uint32_t>(grid.scale) >> 16;
  const auto law = static_cast<unsigned>(grid.law);
  return static_cast<std::uint16_t>(scale | law | (grid.has_zero ? GridHeader::kZeroBit : 0u));
}

/// The inverse, of any header; its values may be infinite.
LGRECO_HD constexpr kernels::LloydMaxGrid grid_of(std::uint16_t header, int bits) {
  return {bits, static_cast<kernels::Law>(header & GridHeader::kLawBits),
          (header & GridHeader::kZeroBit) != 0,
          std::bit_cast<float>(std::uint32_t{header & GridHeader::kScaleBits} << 16)};
}

}  // namespace lgreco
