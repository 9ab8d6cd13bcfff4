// fp32 <-> bf16 / fp16, round to nearest even. NaN stays NaN, overflow becomes infinity.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/kernels/format.h"

namespace lgreco::kernels {

void to_bf16(const float* values, std::size_t count, std::uint16_t* out);
void from_bf16(const std::uint16_t* values, std::size_t count, float* out);
void to_f16(const float* values, std::size_t count, std::uint16_t* out);
void from_f16(const std::uint16_t* values, std::size_t count, float* out);

/// values += addend (nullptr: nothing), `out` gets them rounded, and `values` keep what it does not
/// say. False when a sum is not finite or rounds to infinity.
bool to_bf16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out);
bool to_f16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out);

}  // namespace lgreco::kernels
