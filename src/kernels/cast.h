// fp32 <-> bf16 / fp16, round to nearest even. NaN stays NaN, overflow becomes infinity.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace lgreco::kernels {

void to_bf16(const float* values, std::size_t count, std::uint16_t* out);
void from_bf16(const std::uint16_t* values, std::size_t count, float* out);
void to_f16(const float* values, std::size_t count, std::uint16_t* out);
void from_f16(const std::uint16_t* values, std::size_t count, float* out);

/// values += addend (nullptr: nothing), `out` gets them rounded, and `values` keep what it does not
/// say. False when a sum is not finite or rounds to infinity.
bool to_bf16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out);
bool to_f16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out);

/// Towards minus / plus infinity, for range headers that must enclose. REQUIRES: finite value.
/// The result may be infinite.
std::uint16_t bf16_below(float value);
std::uint16_t bf16_above(float value);

inline float bf16_value(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace lgreco::kernels
