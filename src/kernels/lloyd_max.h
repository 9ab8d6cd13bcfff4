// Quantisation of values to the nearest level of a Lloyd-Max grid, packed without gaps.
//
// A grid has a sign and 2^(bits - 1) magnitudes, which are closest where the law that it is made
// for has most of its values (Lloyd 1982, Max 1960). Every variant gives the same bits as the
// scalar reference.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/kernels/format.h"
#include "src/kernels/pack_codes.h"
#include "src/kernels/quantize.h"

namespace lgreco::kernels {

/// The levels of a grid, in lloyd_max_table().
LloydMaxLevels levels_of(const LloydMaxGrid& grid);

/// code_of() each value, with one rounding for each operation (no FMA). Thresholds lie midway
/// between magnitudes but for less than 2^-16 of them. Writes packed_bytes(count, bits) bytes; the
/// spare high bits of the last byte are 0. REQUIRES: as code_of().
void lloyd_max_pack(const float* values, std::size_t count, const LloydMaxGrid& grid,
                    std::uint8_t* packed);

/// The same; leaves in `values` what the codes do not say: x minus what unpacking adds to zero.
void lloyd_max_pack_keep_loss(float* values, std::size_t count, const LloydMaxGrid& grid,
                              std::uint8_t* packed, const Upcoming& upcoming);

/// accumulator[i] += value_of(code i): its magnitude * scale, rounded, plus offset, rounded, with
/// its sign (no FMA). Any codes are possible. REQUIRES: scale and offset finite and >= 0.
void lloyd_max_unpack_add(const std::uint8_t* packed, std::size_t count, const LloydMaxGrid& grid,
                          float* accumulator);

/// The sum over the values of the squared difference between units_of() and its magnitude: what the
/// grid loses, in squares of the scale. 16 running sums in fp32 (value i goes to sum i mod 16),
/// folded pairwise in halves; sums of more than some thousand values lose precision. REQUIRES: as
/// lloyd_max_pack().
float lloyd_max_loss(const float* values, std::size_t count, const LloydMaxGrid& grid);

}  // namespace lgreco::kernels
