#include "src/engine/run_state.h"

#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "lgreco/status.h"
#include "src/engine/agreement.h"
#include "src/engine/memory_use.h"
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

}  // namespace

RunState::RunState(std::vector<LayerSpec> layers, const AggregatorOptions& options, Place place,
                   Trace& trace)
    : options_(options),
      place_(place),
      specs_(std::move(layers)),
      layers_(make_records(specs_, options.residual)),
      fingerprint_(hash_of(fingerprint_of(specs_, options))),
      planning_(layers_, options, place, trace) {}

void RunState::begin() { use(planning_.first_plan()); }

StepContext RunState::context() const {
  StepContext context;
  context.step = step_;
  context.plan = plan_hash_;
  context.collect_windows = planning_.collects_windows(step_);
  context.sum_averages = planning_.sums_averages(step_);
  context.compare_parameters = options_.parameter && options_.drift_check_every > 0 &&
                               step_ % options_.drift_check_every == 0;
  return context;
}

void RunState::use(Plan plan) {
  ++codecs_;
  std::vector<std::size_t> load(static_cast<std::size_t>(place_.ranks), 0);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].use(plan.levels[i], key(layers_[i]), load);
  }
  plan_ = std::move(plan);
  plan_hash_ = plan_.hash();
}

void RunState::set_grad_scale(double scale) {
  if (!(scale > 0) || !std::isfinite(scale)) {
    throw ConfigError("[aggregator] the gradient scale must be positive and finite");
  }
  const auto factor = static_cast<float>(scale / grad_scale_);
  if (!(factor > 0) || !std::isfinite(factor)) {
    throw ConfigError("[aggregator] the gradient scale cannot change from " +
                      std::to_string(grad_scale_) + " to " + std::to_string(scale));
  }
  grad_scale_ = scale;
  if (factor == 1.0f) return;
  for (LayerRecord& layer : layers_) {
    layer.residual.scale(factor);
    kernels::scale(layer.window.data(), factor, layer.window.size(), layer.window.data());
    kernels::scale(layer.interval_sum.data(), factor, layer.interval_sum.size(),
                   layer.interval_sum.data());
  }
}

void RunState::on_learning_rate_change(double before, double now) {
  if (!(before >= 0 && now >= 0) || !std::isfinite(before) || !std::isfinite(now)) {
    throw ConfigError("[aggregator] learning rates must be finite and not negative");
  }
  if (now >= before) return;
  if (auto plan = planning_.on_learning_rate_decay(step_, plan_)) use(std::move(*plan));
}

AggregatorState RunState::save(const Stats& stats) const {
  AggregatorState state{.rank = place_.rank,
                        .size = place_.ranks,
                        .step = step_,
                        .fingerprint = fingerprint_,
                        .grad_scale = grad_scale_,
                        .critical = planning_.in_critical_regime(),
                        .plan = plan_,
                        .stats = stats,
                        .layers = {}};
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerRecord& layer = layers_[i];
    Window window = planning_.window(i, grad_scale_);
    state.layers.push_back({.residual = layer.residual.to_floats(),
                            .factor = layer.linear_state.factor,
                            .window = std::move(window.sum),
                            .window_steps = window.steps,
                            .interval_sum = layer.interval_sum,
                            .interval_norm = layer.interval_norm,
                            .critical = layer.critical});
  }
  return state;
}

void RunState::check(const AggregatorState& state) const {
  check_state(state, place_, fingerprint_, layers_);
}

void RunState::load(AggregatorState state) {
  std::vector<Residual> residuals;  // the large memory is taken before anything changes
  for (const LayerState& layer : state.layers) {
    residuals.emplace_back(options_.residual).assign(layer.residual);
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    LayerState& layer = state.layers[i];
    layers_[i].residual = std::move(residuals[i]);
    layers_[i].linear_state.factor = std::move(layer.factor);
    layers_[i].window = std::move(layer.window);
    layers_[i].window_steps = layer.window_steps;
    layers_[i].interval_sum = std::move(layer.interval_sum);
    layers_[i].interval_norm = layer.interval_norm;
    layers_[i].critical = layer.critical;
  }
  step_ = state.step;
  grad_scale_ = state.grad_scale;
  planning_.resume(step_, state.critical);
  use(std::move(state.plan));
}

MemoryUse RunState::memory() const { return memory_use(layers_, options_, place_.ranks); }

double RunState::residual_norm() const {
  double squares = 0;
  for (const LayerRecord& layer : layers_) squares += layer.residual.sum_squares();
  return std::sqrt(squares);
}

}  // namespace lgreco
