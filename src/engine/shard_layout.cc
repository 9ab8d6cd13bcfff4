#include "src/engine/shard_layout.h"

#include <algorithm>

namespace lgreco {
namespace {

// Pieces end at multiples of this, which is the default quantisation bucket: a shorter one would
// pay for one more header than needed.
constexpr std::size_t kGranularity = 1024;

std::size_t piece_length(std::size_t count, std::size_t ranks) {
  const std::size_t even = (count + ranks - 1) / ranks;
  return (even + kGranularity - 1) / kGranularity * kGranularity;
}

}  // namespace

ShardLayout shard_layout(std::span<const Shardable> vectors, int ranks) {
  ShardLayout layout;
  layout.message_bytes.assign(static_cast<std::size_t>(ranks), 0);
  for (std::size_t part = 0; part < vectors.size(); ++part) {
    const std::size_t count = vectors[part].count;
    const std::size_t length = piece_length(count, static_cast<std::size_t>(ranks));
    for (std::size_t first = 0; first < count; first += length) {
      Piece piece{.part = part, .first = first, .count = std::min(length, count - first)};
      auto& sizes = layout.message_bytes;
      const auto least = std::min_element(sizes.begin(), sizes.end());
      piece.owner = static_cast<int>(least - sizes.begin());
      piece.offset = *least;
      piece.bytes = vectors[part].codec->payload_bytes(piece.count);
      *least += aligned(piece.bytes);
      layout.pieces.push_back(piece);
    }
  }
  return layout;
}

}  // namespace lgreco
