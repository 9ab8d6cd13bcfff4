#include "src/engine/sum.h"

#include <algorithm>
#include <string>
#include <utility>

#include "lgreco/status.h"
#include "src/base/random.h"

namespace lgreco {
namespace {

ShardLayout layout_of(const std::vector<Addend>& addends, int ranks, bool has_owners) {
  std::vector<Shardable> vectors;
  std::vector<std::vector<int>> first_rank;
  for (const Addend& addend : addends) {
    vectors.push_back(addend.vector);
    if (has_owners) continue;
    vectors.back().owners = first_rank.emplace_back(addend.vector.owners.size(), 0);
  }
  return shard_layout(vectors, ranks);
}

}  // namespace

Sum::Sum(std::vector<Addend> addends, Place place, bool has_owners)
    : addends_(std::move(addends)),
      place_(place),
      layout_(layout_of(addends_, place.ranks, has_owners)),
      pieces_of_(addends_.size()),
      overflows_(layout_.pieces.size()) {
  for (std::size_t i = 0; i < layout_.pieces.size(); ++i) {
    pieces_of_[layout_.pieces[i].part].push_back(i);
  }
}

void Sum::mark_overflows() {
  for (std::size_t i = 0; i < overflows_.size(); ++i) {
    addends_[layout_.pieces[i].part].overflowed |= overflows_[i] != 0;
  }
}

bool Sum::encode_piece(const Piece& piece, const Addend& addend, const RandomKey& key,
                       std::span<std::byte> payloads) {
  const auto payload = piece.scatter.in(payloads);
  const auto padding =
      payloads.subspan(piece.scatter.offset, aligned(payload.size())).subspan(payload.size());
  std::fill(padding.begin(), padding.end(), std::byte{0});  // it may have held others
  return addend.vector.codecs.scatter->encode_keep_loss(
      values_of(piece, addend), residual_of(piece, addend), key, piece.first, payload);
}

void Sum::decode(const MessageBodies& gather, WorkerPool& pool) {
  pool.for_each(addends_.size(), [&](std::size_t i) {
    if (addends_[i].takes_part) decode_into(i, gather, addends_[i].values);
  });
}

// Randomness differs between ranks and between the two encodings, so that errors average out.
RandomKey Sum::key_of(const RandomKey& key, const Addend& addend, std::uint64_t stage) const {
  const std::uint64_t sender = 2 * static_cast<std::uint64_t>(place_.rank) + stage;
  return {key.seed ^ mix64(sender), key.step, addend.layer};
}

std::span<float> Sum::values_of(const Piece& piece, const Addend& addend) {
  return addend.values.subspan(piece.first, piece.count);
}

std::span<const float> Sum::residual_of(const Piece& piece, const Addend& addend) {
  if (addend.residual.empty()) return {};
  return addend.residual.subspan(piece.first, piece.count);
}

void Sum::decode_payload(std::span<const std::byte> payload, const CodedCompressor& codec,
                         const Addend& addend, std::size_t peer, std::span<float> values) {
  const Status status = codec.decode_add(payload, values);
  if (status.is_ok()) return;
  throw ProtocolError("[exchange] layer '" + std::string(addend.name) + "': the payload of rank " +
                      std::to_string(peer) + " is refused: " + status.reason());
}

}  // namespace lgreco
