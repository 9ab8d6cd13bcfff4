#include "src/engine/planning.h"

#include <algorithm>
#include <cstring>

#include "lgreco/algorithm.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

// Ample: a thread looks that often whether it is still wanted.
constexpr std::chrono::seconds kMeasuringOneLayer(5);

double bytes_of(const std::vector<Level>& levels, const std::vector<ModelLayer>& layers) {
  double bytes = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    bytes += static_cast<double>(payload_bytes(levels[i], layers[i].shape));
  }
  return bytes;
}

// A second encoding has a parameter only where there is one.
Level of_encodings(const Level& level, const ModelLayer& layer) {
  const Algorithm algorithm = algorithm_for(static_cast<int>(layer.holders.size()));
  return algorithm == Algorithm::gathered ? scatter_level(level) : level;
}

Level resolved(const Level& level, const ModelLayer& layer) {
  return resolve(of_encodings(level, layer), layer.spec);
}

Plan numbered(Plan plan, std::uint64_t step, const Plan& current) {
  plan.step = step;
  plan.version = current.version + (plan.levels == current.levels ? 0 : 1);
  return plan;
}

std::vector<Window> take_windows(std::vector<LayerRecord>& layers) {
  std::vector<Window> windows;
  for (LayerRecord& layer : layers) {
    windows.push_back({std::move(layer.window), layer.window_steps});
    layer.window = {};
    layer.pending_window = {};
    layer.window_steps = 0;
  }
  return windows;
}

}  // namespace

Planning::Planning(std::vector<LayerRecord>& layers, const AggregatorOptions& options,
                   const Membership& membership, Trace& trace, PlanMaking::Measure measure)
    : layers_(layers),
      options_(options),
      membership_(membership),
      trace_(trace),
      critical_(membership.layers.size(), true) {
  check(options_.method);
  check(options_.policy);
  std::vector<Level> references = {options_.method};
  std::optional<LGrecoPolicy> lgreco;
  if (const auto* policy = std::get_if<LGrecoPolicy>(&options_.policy)) lgreco = *policy;
  if (const auto* accordion = std::get_if<AccordionPolicy>(&options_.policy)) {
    regimes_.emplace(*accordion, options_.start);
    lgreco = accordion->then;
    references = {accordion->low, accordion->high};
  }
  if (lgreco) {
    making_.emplace(PlanMaking{.policy = *lgreco,
                               .membership = membership_,
                               .trace = trace,
                               .measure = std::move(measure),
                               .threads = options_.threads,
                               .timeout = options_.timeout,
                               .network = lgreco->network.value_or(Network{}),
                               .candidates = {},
                               .distinct_levels = {},
                               .codec_rates = {}});
    auto& distinct = making_->distinct_levels;
    for (const ModelLayer& layer : membership_.layers) {
      LGrecoPolicy policy = *lgreco;
      std::vector<Level> around = references;
      for (Level& level : policy.candidates) level = of_encodings(level, layer);
      for (Level& level : around) level = of_encodings(level, layer);
      making_->candidates.push_back(candidates_of(policy, around, layer.spec));
      for (const Level& level : making_->candidates.back()) {
        if (std::find(distinct.begin(), distinct.end(), level) == distinct.end()) {
          distinct.push_back(level);
        }
      }
    }
  }
  update_references();
  mark_measured_layers(0);
}

bool Planning::needs_network() const {
  return making_ && making_->for_time() && !making_->policy.network;
}

void Planning::update_references() {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    critical_[membership_.here()[i]] = layers_[i].critical;
  }
  references_.clear();
  const auto* accordion = std::get_if<AccordionPolicy>(&options_.policy);
  const std::vector<ModelLayer>& layers = membership_.layers;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Level& asked = accordion == nullptr ? options_.method
                         : critical_[i]       ? accordion->low
                                              : accordion->high;
    references_.push_back(resolved(asked, layers[i]));
  }
  const auto* fixed = std::get_if<FixedPolicy>(&options_.policy);
  if (fixed == nullptr) return;
  for (const auto& [name, level] : fixed->levels) {
    const auto found = std::find_if(
        layers.begin(), layers.end(),
        [&wanted = name](const ModelLayer& layer) { return layer.spec.name == wanted; });
    if (found == layers.end()) {
      throw ConfigError("[policy] Fixed: the model has no layer '" + name + "'");
    }
    references_[static_cast<std::size_t>(found - layers.begin())] = resolved(level, *found);
  }
}

Plan Planning::uniform_plan(const std::vector<Level>& levels) const {
  Plan plan;
  plan.levels = levels;
  for (const ModelLayer& layer : membership_.layers) plan.layers.push_back(layer.spec.name);
  plan.bytes = bytes_of(levels, membership_.layers);
  return plan;
}

Plan Planning::first_plan() const {
  if (options_.start == 0) return uniform_plan(references_);
  std::vector<Level> dense;
  for (const ModelLayer& layer : membership_.layers) dense.push_back(resolve(Level{}, layer.spec));
  return uniform_plan(dense);
}

// Layers whose reference is another one than `before` get it at once. The rest of a solved plan
// stays, but its proof is gone.
Plan Planning::with_changed_references(const Plan& current,
                                       const std::vector<Level>& before) const {
  std::vector<Level> levels = current.levels;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    if (references_[i] != before[i]) levels[i] = references_[i];
  }
  return uniform_plan(levels);
}

bool Planning::collects_windows(std::uint64_t step) const {
  if (!making_) return false;
  const PlanningSteps at = next_planning(making_->policy, options_.start, step + 1);
  return step >= at.collect && step < at.measure;
}

bool Planning::sums_averages(std::uint64_t step) const {
  return regimes_ && step >= options_.start;
}

std::optional<Plan> Planning::after_step(const StepEnd& end, const Plan& current, Stats& stats) {
  std::optional<Plan> next;
  const auto now = [&]() -> const Plan& { return next ? *next : current; };
  if (options_.start > 0 && end.step == options_.start) next = uniform_plan(references_);
  if (regimes_ && regimes_->due(end.step)) {
    const std::vector<Level> before = references_;
    regimes_->decide(layers_, end.grad_scale);
    if (!membership_.is_one_group()) share_regimes(end);
    update_references();
    if (references_ != before) next = with_changed_references(now(), before);
  }
  if (making_) {
    if (auto plan = replan(end, stats)) next = std::move(plan);
  }
  if (next) next = numbered(std::move(*next), end.step, current);
  return next;
}

std::optional<Plan> Planning::on_learning_rate_decay(std::uint64_t step, const Plan& current) {
  if (!regimes_) return std::nullopt;
  const std::vector<Level> before = references_;
  regimes_->set_critical(layers_);
  critical_.assign(critical_.size(), true);
  update_references();
  if (references_ == before || step < options_.start) return std::nullopt;
  return numbered(with_changed_references(current, before), step, current);
}

// Each group has decided on its own layers alone, and of the whole model knows its own part.
void Planning::share_regimes(const StepEnd& end) {
  const Place place = membership_.place;
  const std::vector<std::size_t> sizes = membership_.message_bytes(sizeof(IntervalSquares), 1);
  Messages messages(Messages::Kind::gather, Phase::planning, place, 0, sizes);
  const std::span<std::byte> own = messages.outgoing(place.rank);
  std::memcpy(own.data(), &regimes_->squares(), sizeof(IntervalSquares));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    own[sizeof(IntervalSquares) + i] = std::byte{layers_[i].critical};
  }
  messages.exchange(end.communicator, end.frame, Clock::now() + options_.timeout);
  IntervalSquares all;
  for (const Peers& peers : membership_.groups) {
    const std::span<const std::byte> theirs = messages.incoming(peers.ranks[0]);
    IntervalSquares squares;
    std::memcpy(&squares, theirs.data(), sizeof squares);
    all.add(squares);
    for (std::size_t i = 0; i < peers.layers.size(); ++i) {
      critical_[peers.layers[i]] = theirs[sizeof squares + i] != std::byte{0};
    }
  }
  regimes_->decide_for_all(all);
}

void Planning::declare_grad_scale(double scale) {
  if (round_) round_->declare_grad_scale(scale);
  for (LayerRecord& layer : layers_) {
    if (layer.interval_norm > 0) layer.interval_norm /= scale;
  }
}

Window Planning::window(std::size_t layer, double grad_scale) const {
  if (round_) return round_->window(layer, grad_scale);
  if (layers_[layer].window_steps == 0) return {};
  return {layers_[layer].window, layers_[layer].window_steps};
}

void Planning::resume(std::uint64_t step, bool critical, std::vector<bool> critical_layers) {
  if (round_) {
    round_->give_up();
    (void)round_->ends_within(kMeasuringOneLayer);
    leave_round();
  }
  if (regimes_) regimes_->critical = critical;
  critical_ = std::move(critical_layers);
  update_references();
  mark_measured_layers(step);
}

void Planning::forget(std::uint64_t step) {
  resume(step, in_critical_regime(), critical_layers());
  is_forgotten_ = making_.has_value();
}

// -- The making of a plan.

void Planning::mark_measured_layers(std::uint64_t step) {
  if (!making_) return;
  const PlanningSteps at = next_planning(making_->policy, options_.start, step + 1);
  const auto ranks = measuring_ranks(membership_, making_->candidates, at.number);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const std::size_t layer = membership_.here()[i];
    layers_[i].measured_here =
        ranks[layer] == membership_.place.rank && making_->candidates[layer].size() > 1;
  }
}

std::optional<Plan> Planning::replan(const StepEnd& end, Stats& stats) {
  const PlanningSteps at = next_planning(making_->policy, options_.start, end.step);
  if (end.step < at.measure) return std::nullopt;
  const TraceSpan span(trace_, "plan", "lane B", end.step, 0);
  if (!round_) begin_round(at, end);
  if (end.step >= at.share && !round_->is_shared()) round_->share(end, references_, stats);
  return end.step < at.effect ? std::nullopt : end_round(end, stats);
}

void Planning::begin_round(const PlanningSteps& at, const StepEnd& end) {
  std::vector<Window> windows = take_windows(layers_);
  const bool is_empty = std::all_of(windows.begin(), windows.end(),
                                    [](const Window& window) { return window.steps == 0; });
  round_ = std::make_unique<PlanRound>(*making_, at, std::move(windows), end.grad_scale);
  // Nothing is left to measure since a reset: this rank has nothing to share, and the plan stays.
  const bool was_forgotten = std::exchange(is_forgotten_, false) || end.step > at.measure;
  if (was_forgotten && is_empty) return;
  if (late_ && late_->runs()) return;  // so this rank has nothing to share, again
  late_.reset();
  round_->start_measuring();
}

std::optional<Plan> Planning::end_round(const StepEnd& end, Stats& stats) {
  std::optional<SolvedPlan> solved = round_->agree(end, references_, stats);
  const std::string failure = round_->failure();
  leave_round();
  mark_measured_layers(end.step);
  if (!solved) {
    ++stats.plan_failures;
    stats.plan_failure = failure;
    return std::nullopt;
  }
  ++stats.plans;
  stats.plan_fallbacks += solved->fallbacks;
  return std::move(solved->plan);
}

// A thread that still runs is not waited for.
void Planning::leave_round() {
  round_->give_up();
  if (round_->runs()) late_ = std::move(round_);
  round_.reset();
}

}  // namespace lgreco
