#include <algorithm>
#include <map>
#include <string>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw StateError("[resize] " + why +
                   "; give the states that all ranks of one run saved at the same step");
}

using States = std::vector<const AggregatorState*>;

/// States of ranks that averaged with each other: of the same layers.
struct Averaged {
  const std::vector<std::string>* layers;
  States ranks;
};

void check_layer_count(const AggregatorState& state) {
  const std::size_t layers = state.layers.size();
  if (state.plan.layers.size() != layers || state.plan.levels.size() != layers) {
    refuse("the plan of rank " + std::to_string(state.rank) + " has another number of layers " +
           "than its state");
  }
}

std::vector<Averaged> grouped(std::span<const AggregatorState> states) {
  if (states.empty()) refuse("no states were given");
  std::vector<Averaged> groups;
  for (const AggregatorState& state : states) {
    check_layer_count(state);
    const auto found = std::ranges::find_if(
        groups, [&](const Averaged& group) { return *group.layers == state.plan.layers; });
    Averaged& group =
        found == groups.end() ? groups.emplace_back(Averaged{&state.plan.layers, {}}) : *found;
    group.ranks.push_back(&state);
  }
  return groups;
}

States by_rank(const States& states) {
  States ranks(states.size());
  // Several ranks of a node may own nothing: those of all such places are here.
  const bool own_nothing = states.front()->layers.empty();
  for (const AggregatorState* state : states) {
    const std::string who = "rank " + std::to_string(state->rank);
    const auto size = static_cast<std::size_t>(std::max(state->size, 0));
    if (own_nothing && size > 0 && states.size() % size == 0) continue;
    if (size < 1 || size != states.size()) {
      refuse(who + " saved in a run of " + std::to_string(state->size) + " ranks, but " +
             std::to_string(states.size()) + " states were given");
    }
    if (state->rank < 0 || state->rank >= state->size) {
      refuse(who + " of " + std::to_string(state->size) + " cannot be");
    }
    const AggregatorState*& place = ranks[static_cast<std::size_t>(state->rank)];
    if (place != nullptr) refuse(who + " was given twice");
    place = state;
  }
  return own_nothing ? states : ranks;
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
  comparison.equal("plan version", state.plan.version, first.plan.version);
}

void require_same_layers(const AggregatorState& state, const AggregatorState& first) {
  const Comparison comparison(state);
  comparison.equal("plan hash", state.plan.hash(), first.plan.hash());
  for (std::size_t i = 0; i < state.layers.size(); ++i) {
    comparison.equal_layers(first.plan.layers[i], state.layers[i], first.layers[i]);
  }
}

/// One layer in a state that has it.
struct Held {
  const AggregatorState* state;
  std::size_t layer;

  const LayerState& operator*() const { return state->layers[layer]; }
  const LayerState* operator->() const { return &**this; }
};

/// By name.
using Holders = std::map<std::string, std::vector<Held>>;

Holders holders_in(const std::vector<Averaged>& groups) {
  Holders holders;
  for (const Averaged& group : groups) {
    for (std::size_t i = 0; i < group.layers->size(); ++i) {
      for (const AggregatorState* state : group.ranks) {
        holders[(*group.layers)[i]].push_back({state, i});
      }
    }
  }
  return holders;
}

// Ranks that have nothing yet count as zeros.
template <typename Weight>
std::vector<double> sum_of_residuals(const std::vector<Held>& holders, const Weight& weight_of) {
  std::vector<double> sums;
  for (const Held& held : holders) {
    const std::vector<float>& values = held->residual;
    if (values.empty()) continue;
    if (sums.empty()) sums.resize(values.size());
    if (sums.size() != values.size()) {
      refuse("rank " + std::to_string(held.state->rank) +
             " has another size than ranks before it in layer '" +
             held.state->plan.layers[held.layer] + "'");
    }
    const double weight = weight_of(held.state->rank);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += weight * values[i];
  }
  return sums;
}

std::vector<float> divided(const std::vector<double>& sums, std::size_t ranks) {
  std::vector<float> values(sums.size());
  std::transform(sums.begin(), sums.end(), values.begin(),
                 [&](double sum) { return static_cast<float>(sum / static_cast<double>(ranks)); });
  return values;
}

std::vector<float> mean_residual(const std::vector<Held>& holders) {
  return divided(sum_of_residuals(holders, [](int) { return 1; }), holders.size());
}

/// The mean over the new ranks of what these keep is the mean over the old ones: rank r keeps its
/// own times new / old, and a share of what ranks have not sent that are gone.
std::vector<float> kept_residual(const std::vector<Held>& holders, int rank, int size) {
  const auto weight_of = [&](int old) { return old == rank ? size : old >= size ? 1 : 0; };
  return divided(sum_of_residuals(holders, weight_of), holders.size());
}

/// But for layers and their part of the plan.
AggregatorState empty_state(const AggregatorState& first, const AggregatorState& counted, int rank,
                            int size) {
  AggregatorState state{.rank = rank,
                        .size = size,
                        .step = first.step,
                        .fingerprint = first.fingerprint,
                        .grad_scale = first.grad_scale,
                        .critical = first.critical,
                        .learning_rate_decayed = first.learning_rate_decayed,
                        .decay_is_agreed = first.decay_is_agreed,
                        .unsettled = first.unsettled,
                        .plan = first.plan,
                        .stats = counted.stats,
                        .layers = {}};
  state.plan.layers.clear();
  state.plan.levels.clear();
  state.plan.estimates.clear();
  return state;
}

const std::vector<Held>& holders_of(const std::string& layer, const Holders& holders) {
  const auto found = holders.find(layer);
  if (found == holders.end()) refuse("none of them has layer '" + layer + "'");
  return found->second;
}

void add_layer(const std::vector<Held>& holders, AggregatorState& state) {
  const Held first = holders.front();
  const Plan& saved = first.state->plan;
  state.plan.layers.push_back(saved.layers[first.layer]);
  state.plan.levels.push_back(saved.levels[first.layer]);
  if (first.layer < saved.estimates.size()) {
    state.plan.estimates.push_back(saved.estimates[first.layer]);
  }
  state.layers.push_back(*first);
}

void require_place(int rank, int size) {
  if (size >= 1 && rank >= 0 && rank < size) return;
  throw ConfigError("[resize] rank " + std::to_string(rank) + " of " + std::to_string(size) +
                    " cannot be");
}

// Where only some layers were estimated, none is: a plan has estimates of all, or of none.
void drop_partial_estimates(Plan& plan) {
  if (plan.estimates.size() != plan.layers.size()) plan.estimates.clear();
}

/// `residual_of`: what the rank begins with of a layer, from those who held it.
template <typename Residual>
AggregatorState resized(std::span<const AggregatorState> states,
                        std::span<const std::string> layers, int rank, int size,
                        const Residual& residual_of) {
  require_place(rank, size);
  std::vector<Averaged> groups = grouped(states);
  for (Averaged& group : groups) group.ranks = by_rank(group.ranks);
  const States& ranks = groups[0].ranks;
  for (const Averaged& group : groups) {
    for (const AggregatorState* state : group.ranks) {
      require_same_run(*state, *ranks[0]);
      require_same_layers(*state, *group.ranks[0]);
    }
  }
  const AggregatorState& counted = *ranks[std::min(ranks.size() - 1, std::size_t(rank))];
  AggregatorState resized = empty_state(*ranks[0], counted, rank, size);
  const Holders all = holders_in(groups);
  for (const std::string& name : layers) {
    const std::vector<Held>& holders = holders_of(name, all);
    add_layer(holders, resized);
    LayerState& layer = resized.layers.back();
    layer.residual = residual_of(holders);
    // Whichever rank will measure the layer needs what one rank has collected. Of copies that were
    // handed out by an earlier change of ranks, only one went on growing.
    for (const Held& held : holders) {
      if (held->window_steps <= layer.window_steps) continue;
      layer.window = held->window;
      layer.window_steps = held->window_steps;
    }
  }
  drop_partial_estimates(resized.plan);
  return resized;
}

}  // namespace

AggregatorState resize(std::span<const AggregatorState> states, std::span<const std::string> layers,
                       int rank, int size) {
  return resized(states, layers, rank, size, mean_residual);
}

AggregatorState keep_residuals(std::span<const AggregatorState> states,
                               std::span<const std::string> layers, int rank, int size) {
  return resized(states, layers, rank, size, [&](const std::vector<Held>& holders) {
    return kept_residual(holders, rank, size);
  });
}

AggregatorState resize(std::span<const AggregatorState> states, int rank, int size) {
  if (states.empty()) refuse("no states were given");
  return resize(states, states.front().plan.layers, rank, size);
}

AggregatorState reset_residuals(std::span<const AggregatorState> states,
                                std::span<const std::string> layers, int rank, int size) {
  require_place(rank, size);
  const std::vector<Averaged> groups = grouped(states);
  for (const AggregatorState& state : states) require_same_run(state, states.front());
  AggregatorState reset = empty_state(states.front(), states.front(), rank, size);
  const Holders all = holders_in(groups);
  for (const std::string& name : layers) {
    add_layer(holders_of(name, all), reset);
    LayerState& layer = reset.layers.back();
    layer.residual = layer.window = {};
    layer.window_steps = 0;
  }
  drop_partial_estimates(reset.plan);
  return reset;
}

}  // namespace lgreco
