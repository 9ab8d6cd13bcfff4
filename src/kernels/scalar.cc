#include "src/kernels/scalar.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "src/kernels/lloyd_max_table.h"

namespace lgreco::kernels::scalar {
namespace {

// 16 running sums folded pairwise in halves: the order that every vector width can follow.
template <typename T>
T fold(T (&sums)[16]) {
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

template <typename CodeOf>
void pack(std::size_t count, int bits, std::uint8_t* packed, const CodeOf& code_of) {
  for (std::size_t at = 0; at < count; at += kCodesInGroup) {
    pack_group(std::min(kCodesInGroup, count - at), bits, packed + packed_bytes(at, bits),
               [&](std::size_t i) { return code_of(at + i); });
  }
}

std::uint32_t magnitude_of(float value) {
  return std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu;
}

}  // namespace

void add(const float* a, const float* b, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

bool add_finite(const float* a, const float* b, std::size_t count, float* out) {
  add(a, b, count, out);
  return all_finite(out, count);
}

void subtract(const float* a, const float* b, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = a[i] - b[i];
}

void scale(const float* a, float factor, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = a[i] * factor;
}

bool all_finite(const float* values, std::size_t count) {
  return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

float max_magnitude(const float* values, std::size_t count) {
  float largest = 0;
  for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

double sum_squares(const float* values, std::size_t count) {
  double sums[16] = {};
  for (std::size_t i = 0; i < count; ++i) {
    sums[i % 16] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  return fold(sums);
}

void to_bf16(const float* values, std::size_t count, std::uint16_t* out) {
  std::transform(values, values + count, out, bf16_of);
}

void from_bf16(const std::uint16_t* values, std::size_t count, float* out) {
  std::transform(values, values + count, out, bf16_value);
}

void to_f16(const float* values, std::size_t count, std::uint16_t* out) {
  std::transform(values, values + count, out, f16_of);
}

void from_f16(const std::uint16_t* values, std::size_t count, float* out) {
  std::transform(values, values + count, out, f16_value);
}

bool to_bf16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out) {
  if (addend != nullptr) add(values, addend, count, values);
  to_bf16(values, count, out);
  for (std::size_t i = 0; i < count; ++i) values[i] -= bf16_value(out[i]);
  return all_finite(values, count);
}

bool to_f16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out) {
  if (addend != nullptr) add(values, addend, count, values);
  to_f16(values, count, out);
  for (std::size_t i = 0; i < count; ++i) values[i] -= f16_value(out[i]);
  return all_finite(values, count);
}

Range range_of(const float* values, std::size_t count) {
  const auto [low, high] = std::minmax_element(values, values + count);
  return {*low + 0.0f, *high + 0.0f};
}

bool add_and_find_range(const float* addend, std::size_t count, float* values, Range& range) {
  if (addend != nullptr) add(values, addend, count, values);
  range = range_of(values, count);
  return all_finite(values, count);
}

void quantize_pack(const float* values, std::size_t count, const Grid& grid,
                   const RandomStream* stream, std::uint32_t first, std::uint8_t* packed) {
  pack(count, grid.bits, packed, [&](std::size_t i) {
    return code_of(values[i], grid, stream, first + static_cast<std::uint32_t>(i));
  });
}

void quantize_pack_keep_loss(float* values, std::size_t count, const Grid& grid,
                             const RandomStream* stream, std::uint32_t first,
                             std::uint8_t* packed) {
  scalar::quantize_pack(values, count, grid, stream, first, packed);
  const Grid negated{grid.bits, grid.below, -grid.unit_below, -grid.unit_above};
  scalar::unpack_dequantize_add(packed, count, negated, values);
}

void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, const Grid& grid,
                           float* accumulator) {
  for (std::size_t i = 0; i < count; ++i) {
    accumulator[i] += kernels::value_of(code_at(packed, grid.bits, i), grid);
  }
}

void lloyd_max_pack(const float* values, std::size_t count, const LloydMaxGrid& grid,
                    std::uint8_t* packed) {
  const LloydMaxLevels levels = levels_of(grid);
  pack(count, grid.bits, packed, [&](std::size_t i) { return code_of(values[i], grid, levels); });
}

void lloyd_max_pack_keep_loss(float* values, std::size_t count, const LloydMaxGrid& grid,
                              std::uint8_t* packed) {
  scalar::lloyd_max_pack(values, count, grid, packed);
  const LloydMaxLevels levels = levels_of(grid);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] -= kernels::value_of(code_at(packed, grid.bits, i), grid, levels);
  }
}

void lloyd_max_unpack_add(const std::uint8_t* packed, std::size_t count, const LloydMaxGrid& grid,
                          float* accumulator) {
  const LloydMaxLevels levels = levels_of(grid);
  for (std::size_t i = 0; i < count; ++i) {
    accumulator[i] += kernels::value_of(code_at(packed, grid.bits, i), grid, levels);
  }
}

float lloyd_max_loss_of(float value, const LloydMaxGrid& grid) {
  const LloydMaxLevels levels = levels_of(grid);
  const float units = units_of(value, grid);
  const float loss = units - levels.magnitudes[magnitude_index_of(units, levels)];
  return loss * loss;
}

float lloyd_max_loss(const float* values, std::size_t count, const LloydMaxGrid& grid) {
  float sums[16] = {};
  for (std::size_t i = 0; i < count; ++i) sums[i % 16] += lloyd_max_loss_of(values[i], grid);
  return fold(sums);
}

bool moments_of(const float* values, std::size_t count, Moments& moments) {
  if (!all_finite(values, count)) return false;
  const auto sum_up = [&](float unit) {
    MomentSums sums;
    for (std::size_t s = 0; s < MomentSums::kSums; ++s) sums.clear(s);
    for (std::size_t i = 0; i < count; ++i) sums.take(i % MomentSums::kSums, values[i], 1 / unit);
    moments = sums.fold(count, unit);
  };
  sum_up(1);
  if (!moments.suit()) sum_up(unit_of(moments.largest));
  return true;
}

bool add_and_find_moments(const float* addend, std::size_t count, float* values, Moments& moments) {
  if (addend != nullptr) add(values, addend, count, values);
  return scalar::moments_of(values, count, moments);
}

TopKThreshold find_threshold(const float* values, std::size_t count, std::size_t k) {
  std::vector<std::uint32_t> magnitudes(count);
  std::transform(values, values + count, magnitudes.begin(), magnitude_of);
  std::sort(magnitudes.begin(), magnitudes.end(), std::greater<>());
  const std::uint32_t smallest = magnitudes[k - 1];
  const auto kept = magnitudes.begin() + static_cast<std::ptrdiff_t>(k);
  return {smallest, static_cast<std::uint64_t>(std::count(magnitudes.begin(), kept, smallest))};
}

bool add_and_find_threshold(const float* addend, std::size_t count, std::size_t k, float* values,
                            TopKThreshold& threshold) {
  if (addend != nullptr) add(values, addend, count, values);
  if (!all_finite(values, count)) return false;
  threshold = find_threshold(values, count, k);
  return true;
}

void multiply(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
              std::size_t rank, float* left) {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t k = 0; k < rank; ++k) {
      float sums[16] = {};
      for (std::size_t j = 0; j < cols; ++j) {
        sums[j % 16] += matrix[i * cols + j] * right[k * cols + j];
      }
      left[k * rows + i] = fold(sums);
    }
  }
}

void add_and_multiply(const float* addend, std::size_t rows, std::size_t cols, const float* right,
                      std::size_t rank, float* matrix, float* left) {
  add(matrix, addend, rows * cols, matrix);
  multiply(matrix, rows, cols, right, rank, left);
}

void multiply_transposed(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                         std::size_t rank, float* right) {
  std::fill_n(right, rank * cols, 0.0f);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t k = 0; k < rank; ++k) {
      for (std::size_t j = 0; j < cols; ++j) {
        right[k * cols + j] += matrix[i * cols + j] * left[k * rows + i];
      }
    }
  }
}

void reconstruct(const float* left, const float* right, std::size_t rows, std::size_t cols,
                 std::size_t rank, float* matrix) {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < cols; ++j) {
      float sum = left[i] * right[j];
      for (std::size_t k = 1; k < rank; ++k) sum += left[k * rows + i] * right[k * cols + j];
      matrix[i * cols + j] = sum;
    }
  }
}

void reconstruct_keep_loss(const float* left, const float* right, const float* own,
                           std::size_t rows, std::size_t cols, std::size_t rank, float* matrix,
                           float* loss) {
  const std::vector<float> values(matrix, matrix + rows * cols);
  std::vector<float> sent(rows * cols);
  reconstruct(left, own, rows, cols, rank, sent.data());
  reconstruct(left, right, rows, cols, rank, matrix);
  subtract(values.data(), sent.data(), rows * cols, loss);
}

void gram(const float* matrix, std::size_t rows, std::size_t cols, double* gram) {
  const bool wide = rows <= cols;
  const std::size_t small = std::min(rows, cols), large = std::max(rows, cols);
  const auto value = [&](std::size_t i, std::size_t j) {
    return static_cast<double>(wide ? matrix[i * cols + j] : matrix[j * cols + i]);
  };
  for (std::size_t i = 0; i < small; ++i) {
    for (std::size_t k = 0; k < small; ++k) {
      double total = 0, run = 0;
      for (std::size_t j = 0; j < large; ++j) {
        run += value(i, j) * value(k, j);
        if ((j + 1) % kGramDepth == 0 || j + 1 == large) {
          total += run;
          run = 0;
        }
      }
      gram[i * small + k] = total;
    }
  }
}

float value_of(float magnitude, const DeadZone& zone) {
  if (magnitude == 0) return 0;
  return (magnitude + (magnitude == 1 ? zone.first : zone.other)) * zone.step;
}

namespace {

float magnitude_of(float value, const DeadZone& zone) {
  return std::floor(
      std::min(std::abs(value) * zone.scale() * zone.inverse() + zone.rounding, zone.limit));
}

std::int32_t half_of(const DeadZone& zone) {
  return zone.raw_bits > 0 ? 1 << (zone.raw_bits - 1) : 0;
}

}  // namespace

float sent_of(float value, const DeadZone& zone) {
  const float magnitude = magnitude_of(value, zone);
  return magnitude == 0 ? 0 : std::copysign(value_of(magnitude, zone), value);
}

std::int32_t level_of(float value, const DeadZone& zone, std::uint8_t* raw) {
  const auto magnitude = static_cast<std::int32_t>(magnitude_of(value, zone));
  const std::int32_t level = std::signbit(value) ? -magnitude : magnitude;
  if (zone.raw_bits == 0) return level;
  const std::int32_t raised = level + half_of(zone);
  *raw = static_cast<std::uint8_t>(raised & ((1 << zone.raw_bits) - 1));
  return raised >> zone.raw_bits;
}

std::int32_t joined(std::int32_t level, const std::uint8_t* raw, const DeadZone& zone) {
  if (zone.raw_bits == 0) return level;
  return level * (1 << zone.raw_bits) + *raw - half_of(zone);
}

std::size_t count_magnitudes(const float* values, const float* addend, std::size_t count,
                             std::uint32_t* histogram, std::size_t stride) {
  std::size_t counted = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t run = i / kSampleRun;
    if (stride > 1 && (run % stride != 0 || run == count / kSampleRun)) continue;
    const float value = addend == nullptr ? values[i] : values[i] + addend[i];
    ++histogram[(std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu) >> kMagnitudeShift];
    ++counted;
  }
  return counted;
}

std::size_t add_and_find_tokens(const float* values, const float* addend, std::size_t count,
                                float* sums, const DeadZone& zone, std::uint32_t* tokens,
                                std::uint8_t* raw) {
  if (addend != nullptr) {
    add(values, addend, count, sums);
    values = sums;
  }
  if (!all_finite(values, count)) return kNotFinite;
  std::size_t written = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t level = level_of(values[i], zone, raw + i);
    if (level != 0) tokens[written++] = level_token(static_cast<std::uint32_t>(i), level);
  }
  return written;
}

void keep_loss(float* values, std::size_t count, const DeadZone& zone) {
  for (std::size_t i = 0; i < count; ++i) values[i] -= sent_of(values[i], zone);
}

bool add_levels(const std::int16_t* levels, const std::uint8_t* raw, std::size_t count,
                const DeadZone& zone, float* accumulator) {
  bool possible = true;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t level = joined(levels[i], raw + i, zone);
    const auto magnitude = static_cast<float>(std::abs(level));
    possible &= magnitude <= zone.limit;
    const float sent = value_of(std::min(magnitude, zone.limit), zone);
    accumulator[i] += level < 0 ? -sent : sent;
  }
  return possible;
}

float rounding_loss_of(float value, const Grid& grid, bool stochastic) {
  const float unit = grid.unit(value < 0);
  const float steps = value / (unit == 0 ? 1.0f : unit);
  const auto below = static_cast<float>(grid.below), above = static_cast<float>(grid.above());
  const float enclosed = std::clamp(steps, -below, above);
  const float beyond = steps - enclosed;
  const float fraction = enclosed - std::floor(enclosed);
  const float distance = enclosed - std::floor(enclosed + 0.5f);
  const float loss = stochastic ? fraction * (1.0f - fraction) : distance * distance;
  const float share = unit / std::max(grid.unit_below, grid.unit_above);
  return (loss + beyond * beyond) * (share * share);
}

float rounding_loss(const float* values, std::size_t count, const Grid& grid, bool stochastic) {
  float sums[16] = {};
  for (std::size_t i = 0; i < count; ++i) {
    sums[i % 16] += rounding_loss_of(values[i], grid, stochastic);
  }
  return fold(sums);
}

}  // namespace lgreco::kernels::scalar
