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

#include <span>
#include <string_view>
#include <vector>

#include "src/engine/messages.h"
#include "src/engine/shard_layout.h"
#include "src/engine/worker_pool.h"

namespace lgreco {

/// A vector to be averaged.
struct Addend {
  std::span<float> values;
  /// What encode() adds to them first, if anything.
  std::span<const float> residual = {};
  const CodedCompressor* codec = nullptr;
  std::span<const int> owners;  // of its pieces
  std::uint64_t layer = 0;      // for RandomKey
  std::string_view name;        // of the layer, for messages
  /// false: left out of the next encode / reduce / decode.
  bool takes_part = true;
  /// Set when a value is not finite or cannot be represented, here or in the mean.
  bool overflowed = false;
};

class ShardedSum {
 public:
  /// Sizes and codecs of `addends` count; their values may change until encode().
  ShardedSum(std::span<const Addend> addends, Place place);

  /// Bytes of the payloads that rank `owner` owns.
  std::size_t message_bytes(int owner) const {
    return layout_.message_bytes[static_cast<std::size_t>(owner)];
  }

  /// `first` is the place of these payloads in the body of each message.
  /// Add the residuals and encode what others own; what the encoding loses stays in `values`.
  void encode(std::span<Addend> addends, const RandomKey& key, Messages& scatter,
              const std::vector<std::size_t>& first, WorkerPool& pool) const;
  /// Add the peers' pieces to the own ones and encode the means; the loss stays in `values`.
  /// Throws ProtocolError naming the peer when a payload is refused.
  void reduce(std::span<Addend> addends, const RandomKey& key, const Messages& scatter,
              std::size_t scatter_first, Messages& gather, std::size_t gather_first,
              WorkerPool& pool) const;
  /// values = the means. Throws ProtocolError as reduce() does.
  void decode(std::span<Addend> addends, const Messages& gather,
              const std::vector<std::size_t>& first, WorkerPool& pool) const;
  /// The same for one addend, into memory of its size.
  void decode_into(std::size_t part, const Addend& addend, const Messages& gather,
                   const std::vector<std::size_t>& first, std::span<float> result) const;

 private:
  RandomKey key_of(const RandomKey& key, const Addend& addend, std::uint64_t stage) const;
  void mark(std::span<Addend> addends) const;

  Place place_;
  ShardLayout layout_;
  std::vector<std::vector<std::size_t>> pieces_of_;  // by part
  mutable std::vector<unsigned char> overflows_;     // by piece: no two threads share one
};

}  // namespace lgreco
