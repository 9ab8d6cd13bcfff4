// Quantisation of one range ("bucket") of values to b-bit codes, packed without gaps, on a grid
// that has zero on it.
//
// Every variant gives the same bits as the scalar reference.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/base/random.h"
#include "src/kernels/format.h"
#include "src/kernels/pack_codes.h"

namespace lgreco::kernels {

/// Smallest and largest value; a zero is +0. REQUIRES: count > 0, values finite.
Range range_of(const float* values, std::size_t count);

/// values += addend (nullptr: nothing), then their range. False when a value is not finite, with
/// `range` unspecified. REQUIRES: count > 0.
bool add_and_find_range(const float* addend, std::size_t count, float* values, Range& range);

/// code_of() each value; value i has the number first + i in the stream. Writes
/// packed_bytes(count, bits) bytes; the spare high bits of the last byte are 0. REQUIRES: as
/// code_of().
void quantize_pack(const float* values, std::size_t count, const Grid& grid,
                   const RandomStream* stream, std::uint32_t first, std::uint8_t* packed);

/// What is read next, brought into the cache in the meantime: `count` readable values each.
struct Upcoming {
  const float* values;
  const float* addend;
};

/// The same, and then unpack_dequantize_add() with both units negated: leaves in `values` what the
/// codes do not say.
void quantize_pack_keep_loss(float* values, std::size_t count, const Grid& grid,
                             const RandomStream* stream, std::uint32_t first, std::uint8_t* packed,
                             const Upcoming& upcoming);

/// accumulator[i] += value_of(code i, grid) (one multiplication, then one addition, no FMA).
void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, const Grid& grid,
                           float* accumulator);

}  // namespace lgreco::kernels
