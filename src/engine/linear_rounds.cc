#include "src/engine/linear_rounds.h"

#include <cmath>
#include <limits>

#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

float presence_float(Presence presence) {
  switch (presence) {
    case Presence::absent:
      return 0.0f;
    case Presence::present:
      return 1.0f;
    case Presence::non_finite:
      return std::numeric_limits<float>::quiet_NaN();
  }
  return 0.0f;
}

Presence presence_of_sum(float sum) {
  if (!std::isfinite(sum)) return Presence::non_finite;
  return sum == 0.0f ? Presence::absent : Presence::present;
}

}  // namespace

LinearRounds::LinearRounds(std::vector<ExchangePart*> parts, const ExchangeSettings& settings)
    : settings_(settings) {
  std::size_t floats[kRounds] = {parts.size(), 0};
  for (const ExchangePart* part : parts) {
    const LinearCompressor& compressor = *part->record->linear;
    for (int round = 0; round < compressor.rounds(); ++round) {
      floats[round] += compressor.round_floats(part->record->shape, round);
    }
  }
  for (int round = 0; round < kRounds; ++round) vectors_[round].resize(floats[round]);

  std::size_t next[kRounds] = {parts.size(), 0};
  for (ExchangePart* part : parts) {
    Layer& layer = layers_.emplace_back(Layer{part, {}});
    const LinearCompressor& compressor = *part->record->linear;
    for (int round = 0; round < compressor.rounds(); ++round) {
      const std::size_t count = compressor.round_floats(part->record->shape, round);
      layer.rounds.push_back(std::span(vectors_[round]).subspan(next[round], count));
      next[round] += count;
    }
  }
}

void LinearRounds::encode(int round) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const LayerRecord& record = *layer.part->record;
    if (round == 0) vectors_[0][i] = presence_float(layer.part->presence);
    if (round >= record.linear->rounds()) continue;
    if (round == 0)
      record.linear->prepare(record.shape, key(layer), layer.part->record->linear_state);
    record.linear->encode_round(round, layer.part->values, record.shape, record.linear_state,
                                key(layer), means_before(layer, round),
                                layer.rounds[static_cast<std::size_t>(round)]);
  }
}

void LinearRounds::reduce(int round, Communicator& communicator) {
  std::vector<float>& vector = vectors_[round];
  if (vector.empty()) return;
  communicator.all_reduce(vector);
  if (round == 0) {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      layers_[i].part->presence = presence_of_sum(vector[i]);
    }
  }
  const float share = 1.0f / static_cast<float>(communicator.size());
  kernels::scale(vector.data(), share, vector.size(), vector.data());
  // Finite addends may have a sum that is not: to the caller that is the same overflow.
  for (const Layer& layer : layers_) {
    if (static_cast<std::size_t>(round) >= layer.rounds.size()) continue;
    const std::span<float> mean = layer.rounds[static_cast<std::size_t>(round)];
    if (!kernels::all_finite(mean.data(), mean.size())) layer.part->agree(Presence::non_finite);
  }
}

void LinearRounds::decode() {
  for (const Layer& layer : layers_) {
    if (layer.part->presence != Presence::present) continue;
    const LayerRecord& record = *layer.part->record;
    record.linear->decode(record.shape, layer.rounds, layer.part->result);
    if (!kernels::all_finite(layer.part->result.data(), layer.part->result.size())) {
      layer.part->agree(Presence::non_finite);
    }
  }
}

void LinearRounds::commit() {
  for (const Layer& layer : layers_) {
    if (layer.part->presence != Presence::present) continue;
    LayerRecord& record = *layer.part->record;
    record.linear->commit(record.shape, key(layer), layer.rounds, record.linear_state);
    if (!settings_.error_feedback) continue;
    if (record.level.method == Method::dense) {
      record.residual.clear();  // everything was sent
      continue;
    }
    record.residual.resize(record.shape.count());
    kernels::subtract(layer.part->values.data(), layer.part->result.data(), record.shape.count(),
                      record.residual.data());
  }
}

}  // namespace lgreco
