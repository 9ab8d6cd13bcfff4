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

/// The owner of each piece of a vector of `count` elements, in order. Adds the pieces' bytes to
/// `load`, the bytes that each rank owns so far.
std::vector<int> choose_owners(std::size_t count, const CodedCompressor& codec,
                               std::vector<std::size_t>& load);

/// A vector to be laid out: its length, how its pieces are encoded, and who owns them.
struct Shardable {
  std::size_t count = 0;
  const CodedCompressor* codec = nullptr;
  std::span<const int> owners;
};

/// A run of elements of one vector with its place in the owner's message.
struct Piece {
  std::size_t part = 0;   // position in the list of vectors that the layout was made for
  std::size_t first = 0;  // first element
  std::size_t count = 0;
  int owner = 0;
  std::size_t offset = 0;  // of the payload in the owner's message
  std::size_t bytes = 0;
};

/// An owner's message: the payloads of its pieces, each padded with zeros to a multiple of 4 bytes.
struct ShardLayout {
  std::vector<Piece> pieces;
  std::vector<std::size_t> message_bytes;  // by owner
};

ShardLayout shard_layout(std::span<const Shardable> vectors, int ranks);

}  // namespace lgreco
