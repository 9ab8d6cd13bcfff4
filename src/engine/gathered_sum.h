// All-gather of encoded vectors (Algorithm::gathered): every rank sends its payloads to everybody,
// and every rank adds up all of them, its own too. Nothing is encoded twice: all is by the first of
// a vector's two codecs.
#pragma once

#include <vector>

#include "src/engine/sum.h"

namespace lgreco {

class GatheredSum final : public Sum {
 public:
  /// `first`: where these payloads begin in the body of each rank's message.
  GatheredSum(std::vector<Addend> addends, Place place, std::size_t first)
      : Sum(std::move(addends), place, /*has_owners=*/false), first_(first) {}

  /// Of the payloads of a rank.
  std::size_t message_bytes() const { return layout_.scatter_bytes[0]; }

  void encode(const RandomKey& key, const Route& route, WorkerPool& pool) override;
  void reduce(const RandomKey&, const Route&, WorkerPool&) override {}
  /// A mean of finite values beyond fp32 comes out infinite.
  void decode_into(std::size_t addend, const MessageBodies& gather,
                   std::span<float> result) const override;

 private:
  std::size_t first_;
};

}  // namespace lgreco
