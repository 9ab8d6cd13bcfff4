// Uniform quantisation with a wider zone around zero, and what chooses its step: a histogram of
// magnitudes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/kernels/run_level.h"

namespace lgreco::kernels {

/// Bins of magnitudes: 32 for each power of two, linear between.
constexpr int kMagnitudeShift = 18;
constexpr std::size_t kMagnitudeBins = std::size_t{1} << (31 - kMagnitudeShift);
constexpr std::size_t kFirstInfiniteBin = std::size_t{0x7F800000} >> kMagnitudeShift;

/// Counts the magnitudes of values + addend (nullptr: of the values) into `histogram`, which has
/// kMagnitudeBins counts. What is not finite is counted from kFirstInfiniteBin on. With a stride
/// above 1, only every stride-th whole run of kSampleRun of them is. Returns how many are counted.
/// REQUIRES: count < 2^32.
constexpr std::size_t kSampleRun = 64;
std::size_t count_magnitudes(const float* values, const float* addend, std::size_t count,
                             std::uint32_t* histogram, std::size_t stride = 1);

/// A value x becomes q = floor(min(|x| * scale * inverse + rounding, limit)), with the sign of x.
/// It stands for sign(q) * step * (|q| + first) where |q| is 1, (|q| + other) where it is larger,
/// and 0 where q is. With raw bits r > 0 only (q + 2^(r-1)) >> r is coded as a level, and the r
/// bits below it are kept as they are.
struct DeadZone {
  float step;
  float rounding;
  float first;
  float other;
  float limit;  // a whole number, at most kLargestLevel
  int raw_bits;

  /// Their product is 1 / step; each is finite, and the products with values are, too.
  float scale() const { return step < 0x1.0p-64f ? 0x1.0p64f : 1.0f; }
  float inverse() const { return 1.0f / (step * scale()); }
};

/// sums = values + addend (nullptr: nothing is added, and `sums` not written), and their levels
/// that are not zero, as tokens; returns how many they are, or kNotFinite if a sum is not finite,
/// when tokens and raw bits mean nothing. `tokens` has room for `count`. With raw bits, `raw` gets
/// them, one code a byte. REQUIRES: count <= kLevelBlock.
constexpr std::size_t kNotFinite = ~std::size_t{0};
std::size_t add_and_find_tokens(const float* values, const float* addend, std::size_t count,
                                float* sums, const DeadZone& zone, std::uint32_t* tokens,
                                std::uint8_t* raw);
/// Of the values themselves.
inline std::size_t tokens_of(const float* values, std::size_t count, const DeadZone& zone,
                             std::uint32_t* tokens, std::uint8_t* raw) {
  return add_and_find_tokens(values, nullptr, count, nullptr, zone, tokens, raw);
}

/// Takes off the values what their codes stand for.
void keep_loss(float* values, std::size_t count, const DeadZone& zone);

/// Adds what levels (and raw bits) stand for. False when a magnitude exceeds the limit;
/// `accumulator` is finite then, too.
bool add_levels(const std::int16_t* levels, const std::uint8_t* raw, std::size_t count,
                const DeadZone& zone, float* accumulator);

}  // namespace lgreco::kernels
