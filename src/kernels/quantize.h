// Quantisation of one range ("bucket") of values to b-bit codes, packed without gaps, on a grid
// that has zero on it.
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

/// 2^bits values, code - below steps from zero: steps of `unit_below` under it, of `unit_above`
/// over it. Code `below` is exactly zero.
struct Grid {
  int bits;   // 1 to 8
  int below;  // values under zero, 0 to 2^bits - 1
  float unit_below;
  float unit_above;

  int above() const { return (1 << bits) - 1 - below; }  // values over zero
  float unit(bool is_below) const { return is_below ? unit_below : unit_above; }
};

/// With unit = grid.unit(x < 0), code = below + clamp(floor(x / unit + u), -below, above()),
/// u = 0.5, or uniform(stream, first + i) when `stream` is given. So a zero gets the code of zero,
/// whatever is drawn. Writes packed_bytes(count, bits) bytes; the spare high bits of the last byte
/// are 0. REQUIRES: units >= 0; no value but zero on a side whose unit is 0.
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

/// With k = code_i - below, accumulator[i] += k * grid.unit(k < 0) (one multiplication, then one
/// addition, no FMA).
void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, const Grid& grid,
                           float* accumulator);

}  // namespace lgreco::kernels
