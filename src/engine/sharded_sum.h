// Scatter-reduce-all-gather of encoded vectors: the one way in which values are averaged here.
//
// Scatter: every rank sends each owner its encoded pieces. Reduce: the owner adds them, in fp32 and
// in the order of the ranks, to its own values, which it need not encode, and encodes the mean.
// Gather: the owners' messages go to everybody, and every rank, the owner too, decodes the same
// bytes, so that all hold the same bits. A rank sends 2 (N-1)/N of the payload.
//
// All work is done in place: what an encoding loses is left where the values were. For the owner's
// encoding that is the loss of the mean times the number of ranks: as an addend of the next mean it
// counts just once, and no second residual is needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lgreco/compressor.h"
#include "lgreco/values.h"
#include "src/engine/place.h"
#include "src/engine/shard_layout.h"
#include "src/engine/worker_pool.h"

namespace lgreco {

/// A vector to be averaged.
struct Addend {
  Shardable vector;         // its owners need only live until the sum is made
  std::uint64_t layer = 0;  // for RandomKey
  std::string_view name;    // of the layer, for messages
  std::span<float> values = {};
  /// What encode() adds to them first, if anything.
  std::span<const float> residual = {};
  /// false: left out of the next encode / reduce / decode.
  bool takes_part = true;
  /// Set when a value is not finite or cannot be represented, here or in the mean.
  bool overflowed = false;
};

class ShardedSum {
 public:
  /// `scatter_first[r]` and `gather_first[r]`: where these payloads begin in the body of a
  /// scatter's message to rank r, and of a gather's message from it.
  ShardedSum(std::vector<Addend> addends, Place place, std::vector<std::size_t> scatter_first,
             std::vector<std::size_t> gather_first);

  /// Bytes of the payloads that each rank owns.
  const std::vector<std::size_t>& message_bytes() const { return layout_.message_bytes; }
  /// In the order that they were given in; the caller sets all but `vector`.
  std::span<Addend> addends() { return addends_; }

  /// Add the residuals and encode what others own; what the encoding loses stays in the values.
  void encode(const RandomKey& key, const MessageBodies& scatter, WorkerPool& pool);
  /// Add the peers' pieces to the own ones and encode the means; the loss stays in the values.
  /// Throws ProtocolError naming the peer when a payload is refused.
  void reduce(const RandomKey& key, const MessageBodies& scatter, const MessageBodies& gather,
              WorkerPool& pool);
  /// Values = the means. Throws ProtocolError as reduce() does.
  void decode(const MessageBodies& gather, WorkerPool& pool);
  /// The same for one addend, into memory of its size.
  void decode_into(std::size_t addend, const MessageBodies& gather, std::span<float> result) const;

 private:
  RandomKey key_of(const RandomKey& key, const Addend& addend, std::uint64_t stage) const;
  void mark_overflows();

  std::vector<Addend> addends_;
  Place place_;
  std::vector<std::size_t> scatter_first_, gather_first_;
  ShardLayout layout_;
  std::vector<std::vector<std::size_t>> pieces_of_;  // by addend
  std::vector<unsigned char> overflows_;             // by piece: no two threads share one
};

}  // namespace lgreco
