#include "src/engine/shard_layout.h"

#include <algorithm>

#include "src/compressors/pieces.h"

namespace lgreco {

std::vector<int> choose_owners(std::size_t count, const CodedCompressor& codec,
                               std::vector<std::size_t>& load) {
  std::vector<int> owners;
  const std::size_t length = piece_length(count, load.size());
  for (std::size_t first = 0; first < count; first += length) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += aligned(codec.payload_bytes(std::min(length, count - first)));
    owners.push_back(static_cast<int>(least - load.begin()));
  }
  return owners;
}

ShardLayout shard_layout(std::span<const Shardable> vectors, int ranks) {
  ShardLayout layout;
  layout.message_bytes.assign(static_cast<std::size_t>(ranks), 0);
  for (std::size_t part = 0; part < vectors.size(); ++part) {
    const Shardable& vector = vectors[part];
    const std::size_t length = piece_length(vector.count, static_cast<std::size_t>(ranks));
    for (std::size_t i = 0; i < vector.owners.size(); ++i) {
      const std::size_t first = i * length;
      Piece piece{.part = part, .first = first, .count = std::min(length, vector.count - first)};
      piece.owner = vector.owners[i];
      std::size_t& end = layout.message_bytes[static_cast<std::size_t>(piece.owner)];
      piece.offset = end;
      piece.bytes = vector.codec->payload_bytes(piece.count);
      end += aligned(piece.bytes);
      layout.pieces.push_back(piece);
    }
  }
  return layout;
}

}  // namespace lgreco
