// Averages of encoded vectors over the ranks: what is summed by the same collectives.
//
// An average is made of payloads alone, in fp32 and in the order of the ranks, so that all ranks
// hold the same bits. All work is done in place: what an encoding loses is left where the values
// were.
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

/// The bodies that a sum's payloads travel in.
struct Route {
  const MessageBodies& scatter;
  const MessageBodies& gather;
};

class Sum {
 public:
  virtual ~Sum() = default;

  /// In the order that they were given in; the caller sets all but `vector`.
  std::span<Addend> addends() { return addends_; }

  /// Add the residuals and encode; what the encoding loses stays in the values.
  virtual void encode(const RandomKey& key, const Route& route, WorkerPool& pool) = 0;
  /// Make the means that this rank owes the others, from what they scattered. Throws ProtocolError
  /// naming the peer when a payload is refused.
  virtual void reduce(const RandomKey& key, const Route& route, WorkerPool& pool) = 0;
  /// The mean of one addend, into memory of its size. Throws ProtocolError as reduce() does.
  virtual void decode_into(std::size_t addend, const MessageBodies& gather,
                           std::span<float> result) const = 0;
  /// Values = the means. Throws ProtocolError as reduce() does.
  void decode(const MessageBodies& gather, WorkerPool& pool);

 protected:
  /// Pieces belong to their owners, or all of them to rank 0 when nobody owns any.
  Sum(std::vector<Addend> addends, Place place, bool has_owners);

  /// By piece: `work(piece, addend)` says whether all its values can be represented. Of addends
  /// that take part.
  template <typename Work>
  void for_each_piece(WorkerPool& pool, const Work& work) {
    pool.for_each(layout_.pieces.size(), [&](std::size_t i) {
      const Piece& piece = layout_.pieces[i];
      const Addend& addend = addends_[piece.part];
      overflows_[i] = addend.takes_part && !work(piece, addend);
    });
    mark_overflows();
  }
  /// Values and residual, as encode() must do it. `payloads`: those to the piece's owner.
  static bool encode_piece(const Piece& piece, const Addend& addend, const RandomKey& key,
                           std::span<std::byte> payloads);
  /// `stage`: 0 or 1, the first or the second encoding of a value.
  RandomKey key_of(const RandomKey& key, const Addend& addend, std::uint64_t stage) const;
  static std::span<float> values_of(const Piece& piece, const Addend& addend);
  static std::span<const float> residual_of(const Piece& piece, const Addend& addend);
  /// Adds it to `values`.
  static void decode_payload(std::span<const std::byte> payload, const CodedCompressor& codec,
                             const Addend& addend, std::size_t peer, std::span<float> values);

  std::vector<Addend> addends_;
  Place place_;
  ShardLayout layout_;
  std::vector<std::vector<std::size_t>> pieces_of_;  // by addend

 private:
  void mark_overflows();

  std::vector<unsigned char> overflows_;  // by piece: no two threads share one
};

}  // namespace lgreco
