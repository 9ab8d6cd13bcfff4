// The constants of the Lloyd-Max grids: magnitudes, thresholds and how to find a magnitude at once.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "src/kernels/lloyd_max.h"

namespace lgreco::kernels {

/// How many magnitudes are at most y, without a search. The bits of y + 1 in fp32, cut at `shift`,
/// say a cell in which there is one threshold at most. Its entry has, in the bits of an fp32, that
/// threshold, whose low 7 bits are 0, and there the number of thresholds in the cells below.
struct LloydMaxCells {
  static constexpr std::int32_t kOne = 0x3F800000;  // bits of 1.0f
  static constexpr std::int32_t kBelowMask = 127;
  static constexpr std::int32_t kNone = 0x7FFFFF80;  // exceeds every y

  int shift;
  std::int32_t last;  // cell, for everything that lies beyond
  const std::int32_t* entries;
};

/// The one of the host.
LloydMaxTable lloyd_max_table();

/// From this many bits on there are cells.
constexpr int kLeastBitsOfCells = 5;
/// REQUIRES: kLeastBitsOfCells <= bits <= 8.
LloydMaxCells lloyd_max_cells(Law law, bool has_zero, int bits);

}  // namespace lgreco::kernels
