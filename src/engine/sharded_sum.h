// Scatter-reduce-all-gather of encoded vectors (Algorithm::sharded).
//
// Scatter: every rank sends each owner its encoded pieces. Reduce: the owner adds them to its own
// values, which it need not encode, and encodes the mean. Gather: the owners' messages go to
// everybody, and every rank, the owner too, decodes the same bytes. A rank sends 2 (N-1)/N of the
// payload.
//
// What the owner's encoding loses is the loss of the mean times the number of ranks: as an addend
// of the next mean it counts just once, and no second residual is needed.
#pragma once

#include <vector>

#include "src/engine/sum.h"

namespace lgreco {

class ShardedSum final : public Sum {
 public:
  /// `scatter_first[r]` and `gather_first[r]`: where these payloads begin in the body of a
  /// scatter's message to rank r, and of a gather's message from it.
  ShardedSum(std::vector<Addend> addends, Place place, std::vector<std::size_t> scatter_first,
             std::vector<std::size_t> gather_first)
      : Sum(std::move(addends), place, /*has_owners=*/true),
        scatter_first_(std::move(scatter_first)),
        gather_first_(std::move(gather_first)) {}

  /// Bytes of the payloads that each rank owns: of a scatter to it, and of a gather from it.
  const std::vector<std::size_t>& scatter_bytes() const { return layout_.scatter_bytes; }
  const std::vector<std::size_t>& gather_bytes() const { return layout_.gather_bytes; }

  void encode(const RandomKey& key, const Route& route, WorkerPool& pool) override;
  void reduce(const RandomKey& key, const Route& route, WorkerPool& pool) override;
  void decode_into(std::size_t addend, const MessageBodies& gather,
                   std::span<float> result) const override;

 private:
  std::vector<std::size_t> scatter_first_, gather_first_;
};

}  // namespace lgreco
