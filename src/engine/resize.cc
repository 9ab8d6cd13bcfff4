#include <algorithm>
#include <string>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

using States = std::vector<const AggregatorState*>;  // by rank

[[noreturn]] void refuse(const std::string& why) {
  throw StateError("[resize] " + why +
                   "; give the states that all ranks of one run saved at the same step");
}

States by_rank(std::span<const AggregatorState> states) {
  if (states.empty()) refuse("no states were given");
  States ranks(states.size());
  for (const AggregatorState& state : states) {
    const std::string who = "rank " + std::to_string(state.rank);
    if (state.size < 1 || static_cast<std::size_t>(state.size) != states.size()) {
      refuse(who + " saved in a run of " + std::to_string(state.size) + " ranks, but " +
             std::to_string(states.size()) + " states were given");
    }
    if (state.rank < 0 || state.rank >= state.size) {
      refuse(who + " of " + std::to_string(state.size) + " cannot be");
    }
    const AggregatorState*& place = ranks[static_cast<std::size_t>(state.rank)];
    if (place != nullptr) refuse(who + " was given twice");
    place = &state;
  }
  return ranks;
}

/// Compares what must be the same on every rank of a run.
class Comparison {
 public:
  explicit Comparison(const AggregatorState& state) : rank_(state.rank) {}

  template <typename Number>
  void equal(const std::string& what, Number found, Number expected) const {
    if (found == expected) return;
    refuse("rank " + std::to_string(rank_) + " has another " + what + " than rank 0, " +
           std::to_string(found) + " instead of " + std::to_string(expected));
  }

  void equal_layers(const std::string& layer, const LayerState& found,
                    const LayerState& expected) const {
    if (found.factor != expected.factor) {
      refuse("rank " + std::to_string(rank_) + " has another factor than rank 0 in layer '" +
             layer + "'");
    }
    if (found.interval_sum != expected.interval_sum ||
        found.interval_norm != expected.interval_norm || found.critical != expected.critical) {
      refuse("rank " + std::to_string(rank_) + " has another interval than rank 0 in layer '" +
             layer + "'");
    }
  }

 private:
  int rank_;
};

void require_same_run(const AggregatorState& state, const AggregatorState& first) {
  const Comparison comparison(state);
  comparison.equal("step", state.step, first.step);
  comparison.equal("fingerprint of settings and layers", state.fingerprint, first.fingerprint);
  comparison.equal("gradient scale", state.grad_scale, first.grad_scale);
  comparison.equal("plan hash", state.plan.hash(), first.plan.hash());
  comparison.equal("plan version", state.plan.version, first.plan.version);
  comparison.equal("number of layers", state.layers.size(), first.layers.size());
  for (std::size_t i = 0; i < state.layers.size(); ++i) {
    comparison.equal_layers(first.plan.layers[i], state.layers[i], first.layers[i]);
  }
}

// Ranks that have nothing yet count as zeros.
std::vector<float> mean_residual(const States& ranks, std::size_t layer) {
  std::vector<double> sums;
  for (const AggregatorState* state : ranks) {
    const std::vector<float>& values = state->layers[layer].residual;
    if (values.empty()) continue;
    if (sums.empty()) sums.resize(values.size());
    if (sums.size() != values.size()) {
      refuse("rank " + std::to_string(state->rank) +
             " has another size than ranks before it in "
             "layer '" +
             state->plan.layers[layer] + "'");
    }
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += values[i];
  }
  std::vector<float> means(sums.size());
  std::transform(sums.begin(), sums.end(), means.begin(), [&](double sum) {
    return static_cast<float>(sum / static_cast<double>(ranks.size()));
  });
  return means;
}

void check_layer_count(const AggregatorState& state) {
  const std::size_t layers = state.layers.size();
  if (state.plan.layers.size() != layers || state.plan.levels.size() != layers) {
    refuse("the plan of rank " + std::to_string(state.rank) + " has another number of layers " +
           "than its state");
  }
}

}  // namespace

AggregatorState resize(std::span<const AggregatorState> states, int rank, int size) {
  if (size < 1 || rank < 0 || rank >= size) {
    throw ConfigError("[resize] rank " + std::to_string(rank) + " of " + std::to_string(size) +
                      " cannot be");
  }
  const States ranks = by_rank(states);
  for (const AggregatorState* state : ranks) check_layer_count(*state);
  for (const AggregatorState* state : ranks) require_same_run(*state, *ranks[0]);
  AggregatorState resized{.rank = rank,
                          .size = size,
                          .step = ranks[0]->step,
                          .fingerprint = ranks[0]->fingerprint,
                          .grad_scale = ranks[0]->grad_scale,
                          .critical = ranks[0]->critical,
                          .learning_rate_decayed = ranks[0]->learning_rate_decayed,
                          .decay_is_agreed = ranks[0]->decay_is_agreed,
                          .unsettled = ranks[0]->unsettled,
                          .plan = ranks[0]->plan,
                          .stats = ranks[std::min(ranks.size() - 1, std::size_t(rank))]->stats,
                          .layers = {}};
  for (std::size_t layer = 0; layer < ranks[0]->layers.size(); ++layer) {
    LayerState resized_layer = ranks[0]->layers[layer];
    resized_layer.residual = mean_residual(ranks, layer);
    // Whichever rank will measure the layer needs what one rank has collected. Of copies that were
    // handed out by an earlier change of ranks, only one went on growing.
    for (const AggregatorState* state : ranks) {
      const LayerState& saved = state->layers[layer];
      if (saved.window_steps <= resized_layer.window_steps) continue;
      resized_layer.window = saved.window;
      resized_layer.window_steps = saved.window_steps;
    }
    resized.layers.push_back(std::move(resized_layer));
  }
  return resized;
}

}  // namespace lgreco
