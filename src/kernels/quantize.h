// Quantisation of one range ("bucket") of values to b-bit codes, packed without gaps.
//
// Codes are little-endian in the bit order: code i occupies bits [i*bits, (i+1)*bits) of the packed
// string. Every variant gives the same bits as the scalar reference.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/base/random.h"

namespace lgreco::kernels {

struct Range {
  float low;
  float high;
};

/// Smallest and largest value. REQUIRES: count > 0, values finite.
Range range_of(const float* values, std::size_t count);

constexpr std::size_t packed_bytes(std::size_t count, int bits) { return (count * bits + 7) / 8; }

/// code = clamp(floor((x - low) / unit + u), 0, 2^bits - 1), u = 0.5, or uniform(stream, first + i)
/// when `stream` is given. unit == 0 gives code 0. Writes packed_bytes(count, bits) bytes; the
/// spare high bits of the last byte are 0. REQUIRES: 1 <= bits <= 8.
void quantize_pack(const float* values, std::size_t count, int bits, float low, float unit,
                   const RandomStream* stream, std::uint32_t first, std::uint8_t* packed);

/// accumulator[i] += low + code_i * unit (one multiplication, then two additions, no FMA).
void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, int bits, float low,
                           float unit, float* accumulator);

}  // namespace lgreco::kernels
