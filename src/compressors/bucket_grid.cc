#include "src/compressors/bucket_grid.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "src/kernels/rounding_loss.h"

namespace lgreco {
namespace {

using kernels::Law;
using kernels::LloydMaxGrid;
using kernels::Moments;

// Of a header: the upper half of an fp32 whose mantissa is cut to 5 bits, in whose sign and last
// two bits there is something else.
constexpr unsigned kZeroBit = 0x8000, kLawBits = 0x0003, kScaleBits = 0x7FFC;

// To the nearest that a header holds; not to zero. The result may be infinite.
float rounded_scale(float scale) {
  constexpr std::uint32_t kStep = 1u << 18;
  const auto bits = std::bit_cast<std::uint32_t>(scale);
  const std::uint32_t rounded = (bits + kStep / 2 - 1 + (bits / kStep & 1)) & ~(kStep - 1);
  return std::bit_cast<float>(std::max(rounded, kStep));
}

// Rules may ask for a grid that reaches far beyond the values, of which fp32 cannot hold the ends.
LloydMaxGrid within_fp32(LloydMaxGrid grid) {
  constexpr std::uint32_t kStep = 1u << 18;
  constexpr float kMost = std::numeric_limits<float>::max();
  const float most = kMost / std::max(grid.magnitudes().back(), 1.0f);
  if (grid.scale <= most) return grid;
  grid.scale = std::bit_cast<float>(std::bit_cast<std::uint32_t>(most) & ~(kStep - 1));
  return grid;
}

/// scale = max(rms * `rms` + mean * `mean` + top * `largest`, top * `least`), of the magnitudes'
/// root of the mean square, mean, and top: the largest, where it is the scale that makes it the
/// largest of the grid.
struct ScaleRule {
  float rms, largest, mean, least;
};

/// Heavier laws where mean / rms is below `ratios`.
struct Rules {
  float ratios[3];
  ScaleRule scales[4];
};

// Found by search over buckets of normal, Laplace, Student, uniform and log-normally scaled values;
// 2 to 8 bits.
constexpr Rules kRules[] = {
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
// The same for three levels.
constexpr Rules kThreeLevels = {
    {.70f, .68f, .50f},
    {{2.46f, 0, -1.73f, 0}, {1.1f, 0, 0, 0}, {2.91f, 0, -2.9f, .2f}, {1.83f, .41f, -3.69f, .2f}}};
constexpr float kLargestRatio = .87f;  // mean / rms of what the rules were found with

// Below these mean / rms, so few values matter that the others do better at zero.
constexpr float kZeroRatios[] = {.45f, .42f};  // 1 and 2 bits

bool is_better_with_zero(const Moments& moments, int bits) {
  if (bits > 2) return false;
  const auto count = static_cast<float>(moments.count);
  const float ratio = kZeroRatios[bits - 1];
  return moments.sum < ratio * std::sqrt(moments.sum_squares * count);
}

}  // namespace

LloydMaxGrid choose_grid(const Moments& moments, bool has_zero, int bits) {
  const auto count = static_cast<float>(moments.count);
  const float rms = std::sqrt(moments.sum_squares / count);
  const float mean = moments.sum / count;
  LloydMaxGrid grid{bits, Law::normal, has_zero, 0};
  if (bits == 1) {  // without zero: the sign
    grid.scale = rounded_scale(mean / grid.magnitudes()[0] * moments.unit);
    return within_fp32(grid);
  }
  const Rules& rules = bits == 2 && has_zero ? kThreeLevels : kRules[bits - 2];
  const auto law = std::count_if(std::begin(rules.ratios), std::end(rules.ratios),
                                 [&](float ratio) { return mean < ratio * rms; });
  grid.law = static_cast<Law>(law);
  const ScaleRule& rule = rules.scales[law];
  const float top = moments.largest / grid.magnitudes().back();
  const float scale =
      rms * rule.rms + std::min(mean, kLargestRatio * rms) * rule.mean + top * rule.largest;
  grid.scale = rounded_scale(std::max(scale, top * rule.least) * moments.unit);
  return within_fp32(grid);
}

std::uint16_t header_of(const LloydMaxGrid& grid) {
  const std::uint32_t scale = std::bit_cast<std::uint32_t>(grid.scale) >> 16;
  const auto law = static_cast<unsigned>(grid.law);
  return static_cast<std::uint16_t>(scale | law | (grid.has_zero ? kZeroBit : 0u));
}

LloydMaxGrid grid_of(std::uint16_t header, int bits) {
  return {bits, static_cast<Law>(header & kLawBits), (header & kZeroBit) != 0,
          std::bit_cast<float>(std::uint32_t{header & kScaleBits} << 16)};
}

BucketGrid BucketGrid::of(const Moments& moments, const float* values, std::size_t count,
                          int bits) {
  if (moments.count == 0) return BucketGrid({bits, Law::normal, false, 0});
  const bool has_zero = moments.count < count || is_better_with_zero(moments, bits);
  if (bits > 1 || !has_zero) return BucketGrid(choose_grid(moments, has_zero, bits));
  // One side of the best grid of three levels.
  const LloydMaxGrid both = choose_grid(moments, has_zero, 2);
  BucketGrid grid(within_fp32({bits, Law::normal, true, rounded_scale(both.largest())}));
  const kernels::Range range = kernels::range_of(values, count);
  grid.is_negative_ = -range.low > range.high;
  return grid;
}

std::optional<BucketGrid> BucketGrid::read(std::uint16_t header, int bits) {
  BucketGrid grid(grid_of(header, bits));
  if (bits == 1) {  // in the place of the law is the side
    const unsigned side = header & kLawBits;
    if (side > (grid.levels_.has_zero ? 1 : 0)) return {};
    grid.is_negative_ = side == 1;
    grid.levels_.law = Law::normal;
  }
  if (!grid.is_valid()) return {};
  return grid;
}

std::uint16_t BucketGrid::header() const {
  return static_cast<std::uint16_t>(header_of(levels_) | (is_negative_ ? 1u : 0u));
}

bool BucketGrid::is_valid() const {
  return std::isfinite(levels_.scale) && std::isfinite(levels_.largest());
}

kernels::Grid BucketGrid::one_side() const {
  return {1, is_negative_ ? 1 : 0, levels_.scale, levels_.scale};
}

void BucketGrid::pack(const float* values, std::size_t count, std::uint8_t* packed) const {
  if (levels_.scale == 0) {
    std::fill_n(packed, kernels::packed_bytes(count, levels_.bits), std::uint8_t{0});
  } else if (is_one_sided()) {
    kernels::quantize_pack(values, count, one_side(), nullptr, 0, packed);
  } else {
    kernels::lloyd_max_pack(values, count, levels_, packed);
  }
}

void BucketGrid::pack_keep_loss(float* values, std::size_t count, std::uint8_t* packed,
                                const kernels::Upcoming& upcoming) const {
  if (levels_.scale == 0) {
    pack(values, count, packed);
  } else if (is_one_sided()) {
    kernels::quantize_pack_keep_loss(values, count, one_side(), nullptr, 0, packed, upcoming);
  } else {
    kernels::lloyd_max_pack_keep_loss(values, count, levels_, packed, upcoming);
  }
}

void BucketGrid::unpack_add(const std::uint8_t* packed, std::size_t count,
                            float* accumulator) const {
  if (is_one_sided()) {
    kernels::unpack_dequantize_add(packed, count, one_side(), accumulator);
  } else {
    kernels::lloyd_max_unpack_add(packed, count, levels_, accumulator);
  }
}

double BucketGrid::squared_loss(const float* values, std::size_t count) const {
  if (levels_.scale == 0) return 0;
  if (!is_valid()) return std::numeric_limits<double>::infinity();
  const double loss = kernels::sum_of_losses(count, [&](std::size_t at, std::size_t length) {
    return is_one_sided() ? kernels::rounding_loss(values + at, length, one_side(), false)
                          : kernels::lloyd_max_loss(values + at, length, levels_);
  });
  const auto scale = static_cast<double>(levels_.scale);
  return loss * scale * scale;
}

}  // namespace lgreco
