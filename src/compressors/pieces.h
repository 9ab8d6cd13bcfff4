// How a layer is cut for a sum over several ranks: every piece is encoded by itself.
#pragma once

#include <cstddef>

namespace lgreco {

/// The values of each of at most `pieces` pieces but the last, which may be shorter. Pieces end at
/// multiples of 1024, as quantisation buckets do by default: a shorter one would pay for one more
/// header than needed. REQUIRES: pieces > 0.
constexpr std::size_t piece_length(std::size_t count, std::size_t pieces) {
  constexpr std::size_t kGranularity = 1024;
  const std::size_t even = (count + pieces - 1) / pieces;
  return (even + kGranularity - 1) / kGranularity * kGranularity;
}

}  // namespace lgreco
