#include "src/engine/state_check.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lgreco/status.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

bool fits(const std::vector<float>& values, std::size_t count) {
  return values.empty() ||
         (values.size() == count && kernels::all_finite(values.data(), values.size()));
}

bool is_number(double value) { return std::isfinite(value) && value >= 0; }

bool is_possible(const LayerEstimate& layer) {
  for (const Estimate& e : {layer.chosen, layer.reference, layer.dense}) {
    if (!is_number(e.bytes) || !is_number(e.error) || !is_number(e.seconds)) return false;
  }
  return true;
}

bool is_possible(const Plan& plan) {
  return is_number(plan.bytes) && is_number(plan.error) && is_number(plan.budget) &&
         is_number(plan.lower_bound) &&
         (plan.estimates.empty() || plan.estimates.size() == plan.layers.size()) &&
         std::all_of(plan.estimates.begin(), plan.estimates.end(),
                     [](const LayerEstimate& layer) { return is_possible(layer); });
}

void check_layer(const LayerState& state, const LayerRecord& record) {
  const std::size_t columns = record.shape.cols;
  const bool factor_fits =
      fits(state.factor, state.factor.size()) &&
      (columns == 0 ? state.factor.empty() : state.factor.size() % columns == 0);
  const bool window_fits =
      fits(state.window, record.shape.count()) &&
      (record.shape.count() == 0 || state.window.empty() == (state.window_steps == 0));
  const bool interval_fits = fits(state.interval_sum, record.shape.count()) &&
                             (state.interval_norm == -1 || is_number(state.interval_norm));
  if (fits(state.residual, record.shape.count()) && factor_fits && window_fits && interval_fits) {
    return;
  }
  throw StateError("[state] layer '" + record.spec.name +
                   "': the saved tensors have another size than the layer, or are not finite");
}

}  // namespace

void check_state(const AggregatorState& state, Place place, std::uint64_t fingerprint,
                 const std::vector<LayerRecord>& layers) {
  if (state.rank != place.rank || state.size != place.ranks) {
    throw StateError("[state] saved by rank " + std::to_string(state.rank) + " of " +
                     std::to_string(state.size) + ", this is rank " + std::to_string(place.rank) +
                     " of " + std::to_string(place.ranks) + "; load each rank's own file");
  }
  if (state.fingerprint != fingerprint) {
    throw StateError(
        "[state] saved with another model, other settings (method, policy, seed, start, ...) or "
        "other wire versions of the methods; call compress() as it was called then");
  }
  bool same_layers = state.layers.size() == layers.size() &&
                     state.plan.layers.size() == layers.size() &&
                     state.plan.levels.size() == layers.size();
  for (std::size_t i = 0; same_layers && i < layers.size(); ++i) {
    same_layers = state.plan.layers[i] == layers[i].spec.name;
  }
  if (!same_layers) throw StateError("[state] saved for a model with other layers");
  if (!(state.grad_scale >= 0) || !std::isfinite(state.grad_scale)) {
    throw StateError("[state] the gradient scale is negative or not finite");
  }
  if (!is_possible(state.plan)) {
    throw StateError("[state] the plan has numbers that cannot be: negative or not finite");
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    check_layer(state.layers[i], layers[i]);
    const Level& level = state.plan.levels[i];
    if (resolve(level, layers[i].spec) != level) {
      throw StateError("[state] layer '" + layers[i].spec.name + "' cannot be sent as '" +
                       to_string(level) + "'");
    }
  }
}

}  // namespace lgreco
