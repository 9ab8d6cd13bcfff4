// How a layer is cut for a sum over several ranks: every piece is encoded by itself.
#pragma once

#include <cstddef>

namespace lgreco {

/// The values of each of at most `pieces` pieces but the last, which may be shorter. Pieces end at
/// multiples of `granularity`, by default 1024, as quantisation buckets do: a shorter one would pay
/// for one more header than needed. REQUIRES: pieces > 0, granularity > 0.
constexpr std::size_t piece_length(std::size_t count, std::size_t pieces,
                                   std::size_t granularity = 1024) {
  const std::size_t even = (count + pieces - 1) / pieces;
  return (even + granularity - 1) / granularity * granularity;
}

}  // namespace lgreco
