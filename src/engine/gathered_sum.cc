#include "src/engine/gathered_sum.h"

#include <algorithm>

#include "src/kernels/elementwise.h"

namespace lgreco {

void GatheredSum::encode(const RandomKey& key, const Route& route, WorkerPool& pool) {
  const auto own = static_cast<std::size_t>(place_.rank);
  for_each_piece(pool, [&](const Piece& piece, const Addend& addend) {
    return encode_piece(piece, addend, key_of(key, addend, 0),
                        route.gather.out[own].subspan(first_));
  });
}

void GatheredSum::decode_into(std::size_t addend, const MessageBodies& gather,
                              std::span<float> result) const {
  const auto ranks = static_cast<float>(place_.ranks);
  for (const std::size_t i : pieces_of_[addend]) {
    const Piece& piece = layout_.pieces[i];
    const std::span<float> values = result.subspan(piece.first, piece.count);
    std::fill(values.begin(), values.end(), 0.0f);
    for (std::size_t peer = 0; peer < gather.in.size(); ++peer) {
      const auto payload = piece.scatter.in(gather.in[peer].subspan(first_));
      decode_payload(payload, *addends_[addend].vector.codecs.scatter, addends_[addend], peer,
                     values);
    }
    kernels::scale(values.data(), 1.0f / ranks, values.size(), values.data());
  }
}

}  // namespace lgreco
