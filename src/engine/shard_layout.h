// Which rank owns which part of the vectors that are summed.
//
// In a scatter-reduce-all-gather every part has one owner that sums it. A vector is cut into at
// most as many pieces as there are ranks, and each piece goes to the rank that owns the fewest
// bytes so far, over the whole model: so ranks are balanced also when vectors are few and unequal,
// and owners do not depend on the buckets in which layers happen to travel. They follow from the
// plan alone.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lgreco/compressor.h"

namespace lgreco {

/// Payloads start at multiples of this, since they hold 32-bit numbers.
constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 3) / 4 * 4; }

/// How a vector's pieces are encoded on their way to the owners, and their means on the way from
/// them.
struct Codecs {
  const CodedCompressor* scatter = nullptr;
  const CodedCompressor* gather = nullptr;

  /// Where pieces may begin.
  std::size_t granularity() const;
};

/// The owner of each piece of a vector of `count` elements, in order. Adds the bytes of the pieces
/// and of their means to `load`, those that each rank owns so far.
std::vector<int> choose_owners(std::size_t count, const Codecs& codecs,
                               std::vector<std::size_t>& load);

/// A vector to be laid out: its length, how its pieces are encoded, and who owns them.
struct Shardable {
  std::size_t count = 0;
  Codecs codecs;
  std::span<const int> owners;
};

/// Where a payload is in a message.
struct PayloadPlace {
  std::size_t offset = 0;
  std::size_t bytes = 0;

  template <typename Byte>
  std::span<Byte> in(std::span<Byte> message) const {
    return message.subspan(offset, bytes);
  }
};

/// A run of elements of one vector with its places in the messages to and from the owner.
struct Piece {
  std::size_t part = 0;   // position in the list of vectors that the layout was made for
  std::size_t first = 0;  // first element
  std::size_t count = 0;
  int owner = 0;
  PayloadPlace scatter, gather;
};

/// A message to or from an owner: the payloads of its pieces, each padded with zeros to a multiple
/// of 4 bytes.
struct ShardLayout {
  std::vector<Piece> pieces;
  std::vector<std::size_t> scatter_bytes, gather_bytes;  // of the messages, by owner
};

ShardLayout shard_layout(std::span<const Shardable> vectors, int ranks);

}  // namespace lgreco
