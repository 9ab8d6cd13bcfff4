#include "src/engine/layer_record.h"

#include <limits>

#include "src/engine/shard_layout.h"
#include "src/kernels/elementwise.h"

namespace lgreco {

LayerRecord::LayerRecord(LayerSpec layer, DType residual_dtype)
    : spec(std::move(layer)),
      shape(spec.matrix()),
      id(spec.id()),
      residual(residual_dtype),
      previous{.residual = Residual(residual_dtype)} {}

void LayerRecord::use(const Level& new_level, const RandomKey& key,
                      std::vector<std::size_t>& load) {
  level = new_level;
  coded = nullptr;
  coded_mean = nullptr;
  linear = nullptr;
  factor_codecs = {};
  if (is_coded(level.method)) {
    coded = coded_compressor(level);
    if (level.gather_parameter != 0) coded_mean = coded_compressor(gather_level(level));
    owners[0] = choose_owners(shape.count(), codecs(0), load);
    return;
  }
  linear = linear_compressor(level);
  linear->prepare(shape, key, linear_state);
  for (int round = 0; round < linear->rounds(); ++round) {
    const auto at = static_cast<std::size_t>(round);
    factor_codecs[at] = factor_codec(level, shape, round);
    owners[at] = choose_owners(linear->round_floats(shape, round), codecs(round), load);
  }
}

std::size_t LayerRecord::summed_floats(int round) const {
  return linear == nullptr ? shape.count() : linear->round_floats(shape, round);
}

Codecs LayerRecord::codecs(int round) const {
  if (linear == nullptr) return {coded.get(), coded_mean ? coded_mean.get() : coded.get()};
  const CodedCompressor* codec = factor_codecs[static_cast<std::size_t>(round)].get();
  return {codec, codec};
}

bool LayerRecord::scale(float factor) {
  residual.scale(factor);
  previous.residual.scale(factor);
  for (std::vector<float>* values :
       {&window, &pending_window, &interval_sum, &previous.interval_sum}) {
    kernels::scale(values->data(), factor, values->size(), values->data());
  }
  constexpr float kLargest = std::numeric_limits<float>::max();
  (void)previous.residual.clear_beyond(kLargest);
  return !residual.clear_beyond(kLargest);
}

void LayerRecord::forget() {
  residual.clear();
  linear_state = {};
  window = pending_window = interval_sum = {};
  window_steps = 0;
  interval_norm = -1;
  previous = {.residual = std::move(previous.residual)};
}

void LayerRecord::reserve_previous(std::size_t count) {
  previous.residual.reserve(count);
  previous.factor.reserve(linear_state.factor.size());
  previous.interval_sum.reserve(interval_sum.size());
}

void LayerRecord::keep_previous(std::uint64_t step, bool collects, bool sums) {
  previous.step = step;
  previous.collected = collects;
  std::swap(previous.residual, residual);
  previous.factor = linear_state.factor;
  if (sums) {
    previous.interval_sum = interval_sum;
  } else {
    previous.interval_sum.clear();
  }
}

void LayerRecord::restore_previous(std::uint64_t step) {
  if (previous.step != step) return;  // the step did not touch this layer
  previous.step = 0;                  // nor will another one of this number have
  std::swap(residual, previous.residual);
  linear_state.factor = previous.factor;
  if (!previous.interval_sum.empty()) interval_sum = previous.interval_sum;
  if (!previous.collected) return;
  window.swap(pending_window);
  --window_steps;
}

}  // namespace lgreco
