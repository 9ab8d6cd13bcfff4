#include "src/engine/sharded_sum.h"

#include <algorithm>

#include "src/kernels/elementwise.h"

namespace lgreco {

void ShardedSum::encode(const RandomKey& key, const Route& route, WorkerPool& pool) {
  for_each_piece(pool, [&](const Piece& piece, const Addend& addend) {
    if (piece.owner == place_.rank) {
      const std::span<float> values = values_of(piece, addend);
      const std::span<const float> residual = residual_of(piece, addend);
      const float* added = residual.empty() ? nullptr : residual.data();
      return kernels::add_addend(added, values.size(), values.data());
    }
    const auto owner = static_cast<std::size_t>(piece.owner);
    return encode_piece(piece, addend, key_of(key, addend, 0),
                        route.scatter.out[owner].subspan(scatter_first_[owner]));
  });
}

void ShardedSum::reduce(const RandomKey& key, const Route& route, WorkerPool& pool) {
  const auto ranks = static_cast<float>(place_.ranks);
  const auto own = static_cast<std::size_t>(place_.rank);
  for_each_piece(pool, [&](const Piece& piece, const Addend& addend) {
    if (piece.owner != place_.rank) return true;
    const std::span<float> values = values_of(piece, addend);
    for (std::size_t peer = 0; peer < route.scatter.in.size(); ++peer) {
      if (peer == own) continue;
      const auto payloads = route.scatter.in[peer].subspan(scatter_first_[own]);
      decode_payload(piece.scatter.in(payloads), *addend.vector.codecs.scatter, addend, peer,
                     values);
    }
    kernels::scale(values.data(), 1.0f / ranks, values.size(), values.data());
    const auto payload = piece.gather.in(route.gather.out[own].subspan(gather_first_[own]));
    if (!addend.vector.codecs.gather->encode_keep_loss(values, {}, key_of(key, addend, 1),
                                                       piece.first, payload)) {
      return false;
    }
    kernels::scale(values.data(), ranks, values.size(), values.data());
    return kernels::all_finite(values.data(), values.size());
  });
}

void ShardedSum::decode_into(std::size_t addend, const MessageBodies& gather,
                             std::span<float> result) const {
  for (const std::size_t i : pieces_of_[addend]) {
    const Piece& piece = layout_.pieces[i];
    const auto owner = static_cast<std::size_t>(piece.owner);
    const auto payload = piece.gather.in(gather.in[owner].subspan(gather_first_[owner]));
    const std::span<float> values = result.subspan(piece.first, piece.count);
    std::fill(values.begin(), values.end(), 0.0f);
    decode_payload(payload, *addends_[addend].vector.codecs.gather, addends_[addend], owner,
                   values);
  }
}

}  // namespace lgreco
