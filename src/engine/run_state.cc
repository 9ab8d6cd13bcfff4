#include "src/engine/run_state.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "lgreco/status.h"
#include "src/base/random.h"
#include "src/engine/memory_use.h"
#include "src/engine/portable_state.h"
#include "src/engine/registration.h"
#include "src/engine/state_check.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

std::vector<LayerRecord> make_records(const std::vector<LayerSpec>& layers, DType residual) {
  std::vector<LayerRecord> records;
  std::set<std::string> names;
  for (const LayerSpec& layer : layers) {
    if (!names.insert(layer.name).second) {
      throw ConfigError("[aggregator] two layers are named '" + layer.name +
                        "'; a name must identify one layer");
    }
    records.emplace_back(layer, residual);
  }
  return records;
}

std::vector<LayerSpec> whole_model(const std::vector<LayerSpec>& layers,
                                   const AggregatorOptions& options, const Membership& membership) {
  if (membership.is_one_group() || !options.model.empty()) return model_of(layers, options);
  std::vector<LayerSpec> model;
  for (const ModelLayer& layer : membership.layers) model.push_back(layer.spec);
  std::ranges::sort(model, {}, &LayerSpec::name);
  return model;
}

/// This rank's part of a plan of all layers.
Plan part_of(const Plan& plan, const Membership& membership) {
  if (membership.is_one_group()) return plan;
  Plan own = plan;
  own.layers.clear();
  own.levels.clear();
  own.estimates.clear();
  for (const std::size_t layer : membership.here()) {
    own.layers.push_back(plan.layers[layer]);
    own.levels.push_back(plan.levels[layer]);
    if (!plan.estimates.empty()) own.estimates.push_back(plan.estimates[layer]);
  }
  return own;
}

LayerState state_of(const LayerRecord& layer, Window window) {
  return {.residual = layer.residual.to_floats(),
          .factor = layer.linear_state.factor,
          .window = std::move(window.sum),
          .window_steps = window.steps,
          .interval_sum = layer.interval_sum,
          .interval_norm = layer.interval_norm,
          .critical = layer.critical};
}

/// But for the residual.
void take_over(LayerState& state, LayerRecord& layer) {
  layer.linear_state.factor = std::move(state.factor);
  layer.window = std::move(state.window);
  layer.window_steps = state.window_steps;
  layer.interval_sum = std::move(state.interval_sum);
  layer.interval_norm = state.interval_norm;
  layer.critical = state.critical;
  layer.previous.step = 0;
}

}  // namespace

RunState::RunState(std::vector<LayerSpec> layers, const AggregatorOptions& options, Place place,
                   const Membership& membership, Trace& trace)
    : options_(options),
      place_(place),
      membership_(membership),
      specs_(std::move(layers)),
      model_(whole_model(specs_, options, membership)),
      layers_(make_records(specs_, options.residual)),
      fingerprint_(hash_of(fingerprint_of(model_of(specs_, options), options))),
      fingerprint_of_model_(hash_of(fingerprint_of(model_, options))),
      planning_(layers_, options, membership, trace) {}

Plan RunState::plan() const { return part_of(plan_, membership_); }

void RunState::begin() { use(planning_.first_plan()); }

StepContext RunState::context() const {
  StepContext context;
  context.rank = membership_.place.rank;
  context.step = step_;
  context.plan = plan_hash_;
  if (paused_) {
    context.plan = mix64(plan_hash_);  // its messages are never taken for those of the plan
    return context;
  }
  context.collect_windows = planning_.collects_windows(step_);
  context.sum_averages = planning_.sums_averages(step_);
  context.compare_parameters = options_.parameter && options_.drift_check_every > 0 &&
                               step_ % options_.drift_check_every == 0;
  return context;
}

Terms RunState::terms() const {
  return {.step = step_,
          .plan = plan_hash_,
          .grad_scale = grad_scale_,
          .resets = resets_,
          .learning_rate_decayed = learning_rate_decayed_,
          .paused = paused_};
}

void RunState::advance() {
  ++step_;
  decay_is_agreed_ = std::exchange(learning_rate_decayed_, false);
  unsettled_ = true;
  discardable_ = true;
}

void RunState::settle(const StepEnd& end, Stats& stats) {
  unsettled_ = false;
  if (std::exchange(decay_is_agreed_, false)) {
    if (auto plan = planning_.on_learning_rate_decay(step_, plan_)) use(std::move(*plan));
  }
  if (auto plan = planning_.after_step(end, plan_, stats)) use(std::move(*plan));
}

void RunState::use(Plan plan) {
  ++codecs_;
  std::vector<std::size_t> load(static_cast<std::size_t>(place_.ranks), 0);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].use(plan.levels[membership_.here()[i]], key(layers_[i]), load);
  }
  plan_ = std::move(plan);
  plan_hash_ = plan_.hash();
}

std::uint64_t RunState::set_grad_scale(double scale) {
  if (!(scale > 0) || !std::isfinite(scale)) {
    throw ConfigError("[aggregator] the gradient scale must be positive and finite");
  }
  if (grad_scale_ == 0) {
    // Gradients had this scale all along: only now somebody says so.
    planning_.declare_grad_scale(scale);
    grad_scale_ = scale;
    return 0;
  }
  const auto factor = static_cast<float>(scale / grad_scale_);
  if (!(factor > 0) || !std::isfinite(factor)) {
    throw ConfigError("[aggregator] the gradient scale cannot change from " +
                      std::to_string(grad_scale_) + " to " + std::to_string(scale));
  }
  grad_scale_ = scale;
  if (factor == 1.0f) return 0;
  return std::ranges::count_if(layers_, [&](LayerRecord& layer) { return !layer.scale(factor); });
}

void RunState::on_learning_rate_change(double before, double now) {
  if (!(before >= 0 && now >= 0) || !std::isfinite(before) || !std::isfinite(now)) {
    throw ConfigError("[aggregator] learning rates must be finite and not negative");
  }
  // Not at once: a rank that was not told would expect messages of other sizes.
  if (now < before && planning_.follows_learning_rate()) learning_rate_decayed_ = true;
}

void RunState::pause(bool paused) {
  if (paused && stateless_layers_.empty()) {
    std::vector<LayerRecord> stateless = make_records(specs_, DType::f32);
    std::vector<std::size_t> load(static_cast<std::size_t>(place_.ranks), 0);
    for (LayerRecord& layer : stateless) layer.use(resolve(Level{}, layer.spec), key(layer), load);
    stateless_layers_ = std::move(stateless);
  }
  paused_ = paused;  // last: without memory for the layers, nothing has changed
}

void RunState::reset() {
  ++resets_;
  for (LayerRecord& layer : layers_) layer.forget();
  planning_.forget(step_);
  discardable_ = false;  // but what follows the step still does
  use(plan_);            // draws the factors anew
}

bool RunState::discard_last_step() {
  if (!options_.keep_previous) {
    throw ConfigError(
        "[aggregator] there is nothing to take the last step back to; keep_previous=True keeps it");
  }
  if (!std::exchange(discardable_, false)) return false;
  for (LayerRecord& layer : layers_) layer.restore_previous(step_);
  --step_;
  learning_rate_decayed_ |= std::exchange(decay_is_agreed_, false);
  unsettled_ = false;  // done before the step that is taken back
  return true;
}

AggregatorState RunState::save(const Stats& stats) const {
  AggregatorState state{.rank = place_.rank,
                        .size = place_.ranks,
                        .step = step_,
                        .fingerprint = fingerprint_,
                        .grad_scale = grad_scale_,
                        .critical = planning_.in_critical_regime(),
                        .learning_rate_decayed = learning_rate_decayed_,
                        .decay_is_agreed = decay_is_agreed_,
                        .unsettled = unsettled_,
                        .plan = plan(),
                        .stats = stats,
                        .layers = {}};
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    state.layers.push_back(state_of(layers_[i], planning_.window(i, grad_scale())));
  }
  return state;
}

RunState::Loadable RunState::prepare(AggregatorState state) const {
  const bool is_portable = state.is_portable();
  if (is_portable) state = part_of_state(std::move(state), specs_, place_);
  check_state(state, place_, is_portable ? fingerprint_of_model_ : fingerprint_, layers_);
  Loadable loadable{.state = std::move(state), .residuals = {}, .plan = {}, .critical = {}};
  for (const LayerState& layer : loadable.state.layers) {
    loadable.residuals.emplace_back(options_.residual).assign(layer.residual);
  }
  return loadable;
}

void RunState::load(Loadable loadable) {
  AggregatorState& state = loadable.state;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].residual = std::move(loadable.residuals[i]);
    take_over(state.layers[i], layers_[i]);
  }
  step_ = state.step;
  grad_scale_ = state.grad_scale;
  learning_rate_decayed_ = state.learning_rate_decayed;
  decay_is_agreed_ = state.decay_is_agreed;
  unsettled_ = state.unsettled;
  resets_ = 0;
  discardable_ = false;
  planning_.resume(step_, state.critical, std::move(loadable.critical));
  use(std::move(loadable.plan));
}

MemoryUse RunState::memory() const { return memory_use(layers_, options_, place_.ranks); }

double RunState::residual_norm() const {
  double squares = 0;
  for (const LayerRecord& layer : layers_) squares += layer.residual.sum_squares();
  return std::sqrt(squares);
}

}  // namespace lgreco
