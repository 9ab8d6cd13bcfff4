#include "src/engine/sharded_sum.h"

#include <algorithm>
#include <string>

#include "src/base/random.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

void decode_piece(const Piece& piece, const Addend& addend, std::span<const std::byte> message,
                  std::size_t first, int peer, std::span<float> values) {
  const auto payload = message.subspan(first + piece.offset, piece.bytes);
  const Status status = addend.codec->decode_add(payload, values);
  if (status.is_ok()) return;
  throw ProtocolError("[exchange] layer '" + std::string(addend.name) + "': the payload of rank " +
                      std::to_string(peer) + " is refused: " + status.reason());
}

std::span<float> values_of(const Piece& piece, const Addend& addend) {
  return addend.values.subspan(piece.first, piece.count);
}

std::span<const float> residual_of(const Piece& piece, const Addend& addend) {
  if (addend.residual.empty()) return {};
  return addend.residual.subspan(piece.first, piece.count);
}

}  // namespace

ShardedSum::ShardedSum(std::span<const Addend> addends, Place place) : place_(place) {
  std::vector<Shardable> vectors;
  for (const Addend& addend : addends) {
    vectors.push_back({addend.values.size(), addend.codec, addend.owners});
  }
  layout_ = shard_layout(vectors, place.ranks);
  pieces_of_.resize(addends.size());
  for (std::size_t i = 0; i < layout_.pieces.size(); ++i) {
    pieces_of_[layout_.pieces[i].part].push_back(i);
  }
  overflows_.resize(layout_.pieces.size());
}

// Randomness differs between ranks and between the two encodings, so that errors average out.
RandomKey ShardedSum::key_of(const RandomKey& key, const Addend& addend,
                             std::uint64_t stage) const {
  const std::uint64_t sender = 2 * static_cast<std::uint64_t>(place_.rank) + stage;
  return {key.seed ^ mix64(sender), key.step, addend.layer};
}

void ShardedSum::mark(std::span<Addend> addends) const {
  for (std::size_t i = 0; i < overflows_.size(); ++i) {
    addends[layout_.pieces[i].part].overflowed |= overflows_[i] != 0;
  }
}

void ShardedSum::encode(std::span<Addend> addends, const RandomKey& key, Messages& scatter,
                        const std::vector<std::size_t>& first, WorkerPool& pool) const {
  pool.for_each(layout_.pieces.size(), [&](std::size_t i) {
    const Piece& piece = layout_.pieces[i];
    const Addend& addend = addends[piece.part];
    overflows_[i] = 0;
    if (!addend.takes_part) return;
    const std::span<float> values = values_of(piece, addend);
    const std::span<const float> residual = residual_of(piece, addend);
    if (piece.owner == place_.rank) {
      const float* addend = residual.empty() ? nullptr : residual.data();
      overflows_[i] = !kernels::add_addend(addend, values.size(), values.data());
      return;
    }
    const std::size_t at = first[static_cast<std::size_t>(piece.owner)] + piece.offset;
    const auto padded = scatter.outgoing(piece.owner).subspan(at, aligned(piece.bytes));
    const auto payload = padded.first(piece.bytes);
    std::fill(padded.begin() + piece.bytes, padded.end(), std::byte{0});  // it may have held others
    overflows_[i] = !addend.codec->encode_keep_loss(values, residual, key_of(key, addend, 0),
                                                    piece.first, payload);
  });
  mark(addends);
}

void ShardedSum::reduce(std::span<Addend> addends, const RandomKey& key, const Messages& scatter,
                        std::size_t scatter_first, Messages& gather, std::size_t gather_first,
                        WorkerPool& pool) const {
  const auto ranks = static_cast<float>(place_.ranks);
  pool.for_each(layout_.pieces.size(), [&](std::size_t i) {
    const Piece& piece = layout_.pieces[i];
    const Addend& addend = addends[piece.part];
    overflows_[i] = 0;
    if (piece.owner != place_.rank || !addend.takes_part) return;
    const std::span<float> values = values_of(piece, addend);
    for (int peer = 0; peer < place_.ranks; ++peer) {
      if (peer == place_.rank) continue;
      decode_piece(piece, addend, scatter.incoming(peer), scatter_first, peer, values);
    }
    kernels::scale(values.data(), 1.0f / ranks, values.size(), values.data());
    const auto message = gather.outgoing(place_.rank);
    const auto payload = message.subspan(gather_first + piece.offset, piece.bytes);
    if (!addend.codec->encode_keep_loss(values, {}, key_of(key, addend, 1), piece.first, payload)) {
      overflows_[i] = 1;
      return;
    }
    kernels::scale(values.data(), ranks, values.size(), values.data());
    if (!kernels::all_finite(values.data(), values.size())) overflows_[i] = 1;
  });
  mark(addends);
}

void ShardedSum::decode(std::span<Addend> addends, const Messages& gather,
                        const std::vector<std::size_t>& first, WorkerPool& pool) const {
  pool.for_each(addends.size(), [&](std::size_t part) {
    const Addend& addend = addends[part];
    if (addend.takes_part) decode_into(part, addend, gather, first, addend.values);
  });
}

void ShardedSum::decode_into(std::size_t part, const Addend& addend, const Messages& gather,
                             const std::vector<std::size_t>& first, std::span<float> result) const {
  for (const std::size_t i : pieces_of_[part]) {
    const Piece& piece = layout_.pieces[i];
    const std::span<float> values = result.subspan(piece.first, piece.count);
    std::fill(values.begin(), values.end(), 0.0f);
    decode_piece(piece, addend, gather.incoming(piece.owner),
                 first[static_cast<std::size_t>(piece.owner)], piece.owner, values);
  }
}

}  // namespace lgreco
