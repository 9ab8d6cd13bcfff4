// The coded layers of one bucket: scatter-reduce-all-gather of encoded pieces.
//
// Scatter: every rank sends each owner its encoded pieces. Reduce: the owner adds them, in fp32, to
// its own values, which it need not encode, and encodes the mean. Gather: the owners' messages go
// to everybody, and every rank, the owner too, decodes the same bytes.
//
// What the owner's encoding loses is kept in the owner's residual, times the number of ranks: as an
// addend of the next step's mean it counts just once, and no second residual is needed.
#pragma once

#include <cstddef>
#include <vector>

#include "lgreco/communicator.h"
#include "src/engine/exchange_part.h"
#include "src/engine/shard_layout.h"

namespace lgreco {

class CodedRounds {
 public:
  CodedRounds(std::vector<ExchangePart*> parts, const ExchangeSettings& settings, int rank,
              int ranks);

  void encode();
  void scatter(Communicator& communicator);
  /// Throws ProtocolError naming peer and layer when a payload is refused.
  void reduce();
  void gather(Communicator& communicator);
  /// Write every part's result. Throws ProtocolError as reduce() does.
  void decode();
  /// Update residuals. Call once the whole exchange has succeeded.
  void commit();

 private:
  using Bytes = std::vector<std::byte>;

  std::span<std::byte> message_to(int owner);
  void write_flags(std::span<std::byte> message) const;
  void read_flags(std::span<const std::byte> message);
  void decode_piece(const Piece& piece, std::span<const std::byte> message, int peer,
                    std::span<float> accumulator) const;
  std::span<const std::byte> sent_message(int owner) const;
  /// Randomness differs between ranks and between the two encodings, so that errors average out.
  RandomKey key(const ExchangePart& part, std::uint64_t stage) const;

  std::vector<ExchangePart*> parts_;
  ExchangeSettings settings_;
  int rank_;
  int ranks_;
  ShardLayout layout_;
  Bytes sent_;                        // scatter, slot after slot; own slot empty
  std::vector<std::size_t> send_at_;  // by owner, offset in sent_
  Bytes received_;                    // scatter, slot after slot; own slot empty
  Bytes own_message_;                 // gather, of this rank
  Bytes gathered_;                    // gather, slot after slot
  std::vector<float> sums_;           // of the owned pieces, one after the other
};

}  // namespace lgreco
