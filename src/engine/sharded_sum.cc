#include "src/engine/sharded_sum.h"

#include <algorithm>
#include <string>
#include <utility>

#include "src/base/random.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

void decode_piece(const Piece& piece, const Addend& addend, std::span<const std::byte> message,
                  std::size_t first, std::size_t peer, std::span<float> values) {
  const auto payload = message.subspan(first + piece.offset, piece.bytes);
  const Status status = addend.vector.codec->decode_add(payload, values);
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

ShardedSum::ShardedSum(std::vector<Addend> addends, Place place,
                       std::vector<std::size_t> scatter_first,
                       std::vector<std::size_t> gather_first)
    : addends_(std::move(addends)),
      place_(place),
      scatter_first_(std::move(scatter_first)),
      gather_first_(std::move(gather_first)) {
  std::vector<Shardable> vectors;
  for (const Addend& addend : addends_) vectors.push_back(addend.vector);
  layout_ = shard_layout(vectors, place.ranks);
  pieces_of_.resize(addends_.size());
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

void ShardedSum::mark_overflows() {
  for (std::size_t i = 0; i < overflows_.size(); ++i) {
    addends_[layout_.pieces[i].part].overflowed |= overflows_[i] != 0;
  }
}

void ShardedSum::encode(const RandomKey& key, const MessageBodies& scatter, WorkerPool& pool) {
  pool.for_each(layout_.pieces.size(), [&](std::size_t i) {
    const Piece& piece = layout_.pieces[i];
    const Addend& addend = addends_[piece.part];
    overflows_[i] = 0;
    if (!addend.takes_part) return;
    const std::span<float> values = values_of(piece, addend);
    const std::span<const float> residual = residual_of(piece, addend);
    if (piece.owner == place_.rank) {
      const float* added = residual.empty() ? nullptr : residual.data();
      overflows_[i] = !kernels::add_addend(added, values.size(), values.data());
      return;
    }
    const auto owner = static_cast<std::size_t>(piece.owner);
    const std::size_t at = scatter_first_[owner] + piece.offset;
    const auto padded = scatter.out[owner].subspan(at, aligned(piece.bytes));
    const auto payload = padded.first(piece.bytes);
    std::fill(padded.begin() + piece.bytes, padded.end(), std::byte{0});  // it may have held others
    overflows_[i] = !addend.vector.codec->encode_keep_loss(values, residual, key_of(key, addend, 0),
                                                           piece.first, payload);
  });
  mark_overflows();
}

void ShardedSum::reduce(const RandomKey& key, const MessageBodies& scatter,
                        const MessageBodies& gather, WorkerPool& pool) {
  const auto ranks = static_cast<float>(place_.ranks);
  const auto own = static_cast<std::size_t>(place_.rank);
  pool.for_each(layout_.pieces.size(), [&](std::size_t i) {
    const Piece& piece = layout_.pieces[i];
    const Addend& addend = addends_[piece.part];
    overflows_[i] = 0;
    if (piece.owner != place_.rank || !addend.takes_part) return;
    const std::span<float> values = values_of(piece, addend);
    for (std::size_t peer = 0; peer < scatter.in.size(); ++peer) {
      if (peer == own) continue;
      decode_piece(piece, addend, scatter.in[peer], scatter_first_[own], peer, values);
    }
    kernels::scale(values.data(), 1.0f / ranks, values.size(), values.data());
    const auto payload = gather.out[own].subspan(gather_first_[own] + piece.offset, piece.bytes);
    if (!addend.vector.codec->encode_keep_loss(values, {}, key_of(key, addend, 1), piece.first,
                                               payload)) {
      overflows_[i] = 1;
      return;
    }
    kernels::scale(values.data(), ranks, values.size(), values.data());
    if (!kernels::all_finite(values.data(), values.size())) overflows_[i] = 1;
  });
  mark_overflows();
}

void ShardedSum::decode(const MessageBodies& gather, WorkerPool& pool) {
  pool.for_each(addends_.size(), [&](std::size_t i) {
    if (addends_[i].takes_part) decode_into(i, gather, addends_[i].values);
  });
}

void ShardedSum::decode_into(std::size_t addend, const MessageBodies& gather,
                             std::span<float> result) const {
  for (const std::size_t i : pieces_of_[addend]) {
    const Piece& piece = layout_.pieces[i];
    const auto owner = static_cast<std::size_t>(piece.owner);
    const std::span<float> values = result.subspan(piece.first, piece.count);
    std::fill(values.begin(), values.end(), 0.0f);
    decode_piece(piece, addends_[addend], gather.in[owner], gather_first_[owner], owner, values);
  }
}

}  // namespace lgreco
