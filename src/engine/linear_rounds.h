// The linear layers of one bucket: fused all-reduces of plain floats.
//
// Round 0 carries one presence float per layer (0 absent, 1 present, NaN non-finite, so that the
// sum tells), the dense layers and the P factors; round 1 the Q factors.
#pragma once

#include <span>
#include <vector>

#include "lgreco/communicator.h"
#include "src/engine/exchange_part.h"

namespace lgreco {

class LinearRounds {
 public:
  static constexpr int kRounds = 2;

  LinearRounds(std::vector<ExchangePart*> parts, const ExchangeSettings& settings);

  /// Fill this rank's vector of `round`; reads the means of the round before.
  void encode(int round);
  /// The collective; none when the round has nothing to carry.
  void reduce(int round, Communicator& communicator);
  /// Write every part's result.
  void decode();
  /// Update residuals and factors. Call once the whole exchange has succeeded.
  void commit();

 private:
  struct Layer {
    ExchangePart* part;
    std::vector<std::span<float>> rounds;  // into vectors_
  };

  RandomKey key(const Layer& layer) const {
    return {settings_.seed, settings_.step, layer.part->record->id};
  }
  std::span<const std::span<float>> means_before(const Layer& layer, int round) const {
    return std::span(layer.rounds).first(static_cast<std::size_t>(round));
  }

  ExchangeSettings settings_;
  std::vector<Layer> layers_;
  std::vector<float> vectors_[kRounds];
};

}  // namespace lgreco
