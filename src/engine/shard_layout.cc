#include "src/engine/shard_layout.h"

#include <algorithm>

#include "src/compressors/pieces.h"

namespace lgreco {

namespace {

PayloadPlace append(std::size_t bytes, std::size_t& end) {
  const PayloadPlace place{end, bytes};
  end += aligned(bytes);
  return place;
}

}  // namespace

std::size_t Codecs::granularity() const {
  return std::max(scatter->granularity(), gather->granularity());
}

std::vector<int> choose_owners(std::size_t count, const Codecs& codecs,
                               std::vector<std::size_t>& load) {
  std::vector<int> owners;
  const std::size_t length = piece_length(count, load.size(), codecs.granularity());
  for (std::size_t first = 0; first < count; first += length) {
    const auto least = std::min_element(load.begin(), load.end());
    const std::size_t piece = std::min(length, count - first);
    *least += aligned(codecs.scatter->payload_bytes(piece)) +
              aligned(codecs.gather->payload_bytes(piece));
    owners.push_back(static_cast<int>(least - load.begin()));
  }
  return owners;
}

ShardLayout shard_layout(std::span<const Shardable> vectors, int ranks) {
  ShardLayout layout;
  const auto size = static_cast<std::size_t>(ranks);
  layout.scatter_bytes.assign(size, 0);
  layout.gather_bytes.assign(size, 0);
  for (std::size_t part = 0; part < vectors.size(); ++part) {
    const Shardable& vector = vectors[part];
    const std::size_t length = piece_length(vector.count, size, vector.codecs.granularity());
    for (std::size_t i = 0; i < vector.owners.size(); ++i) {
      const std::size_t first = i * length;
      Piece piece{.part = part, .first = first, .count = std::min(length, vector.count - first)};
      piece.owner = vector.owners[i];
      const auto owner = static_cast<std::size_t>(piece.owner);
      piece.scatter =
          append(vector.codecs.scatter->payload_bytes(piece.count), layout.scatter_bytes[owner]);
      piece.gather =
          append(vector.codecs.gather->payload_bytes(piece.count), layout.gather_bytes[owner]);
      layout.pieces.push_back(piece);
    }
  }
  return layout;
}

}  // namespace lgreco
