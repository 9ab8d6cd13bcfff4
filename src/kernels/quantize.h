// Quantisation of one range ("bucket") of values to b-bit codes, packed without gaps.
//
// Every variant gives the same bits as the scalar reference.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/base/random.h"
#include "src/kernels/pack_codes.h"

namespace lgreco::kernels {

struct Range {
  float low;
  float high;
};

/// Smallest and largest value; a zero is +0. REQUIRES: count > 0, values finite.
Range range_of(const float* values, std::size_t count);

/// values += addend (nullptr: nothing), then their range. False when a value is not finite, with
/// `range` unspecified. REQUIRES: count > 0.
bool add_and_find_range(const float* addend, std::size_t count, float* values, Range& range);

/// code = clamp(floor((x - low) / unit + u), 0, 2^bits - 1), u = 0.5, or uniform(stream, first + i)
/// when `stream` is given. unit == 0 gives code 0. Writes packed_bytes(count, bits) bytes; the
/// spare high bits of the last byte are 0. REQUIRES: 1 <= bits <= 8.
void quantize_pack(const float* values, std::size_t count, int bits, float low, float unit,
                   const RandomStream* stream, std::uint32_t first, std::uint8_t* packed);

/// What is read next, brought into the cache in the meantime: `count` readable values each.
struct Upcoming {
  const float* values;
  const float* addend;
};

/// The same, and then unpack_dequantize_add(packed, count, bits, -low, -unit, values): leaves in
/// `values` what the codes do not say.
void quantize_pack_keep_loss(float* values, std::size_t count, int bits, float low, float unit,
                             const RandomStream* stream, std::uint32_t first, std::uint8_t* packed,
                             const Upcoming& upcoming);

/// accumulator[i] += low + code_i * unit (one multiplication, then two additions, no FMA).
void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, int bits, float low,
                           float unit, float* accumulator);

}  // namespace lgreco::kernels
