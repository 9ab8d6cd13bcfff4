#include "src/engine/planning.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <system_error>

#include "lgreco/status.h"
#include "src/base/stopwatch.h"
#include "src/engine/codec_rates.h"
#include "src/engine/messages.h"

namespace lgreco {
namespace {

// How long a step waits for its own planner before all ranks drop the plan. Never in a usual run,
// where steps between measuring and effect are many; with short intervals it keeps runs
// reproducible.
constexpr std::chrono::seconds kPatience(10);

std::chrono::milliseconds patience(std::chrono::milliseconds timeout) {
  return std::min<std::chrono::milliseconds>(kPatience, timeout / 4);
}

// What precedes a rank's rows.
constexpr float kGood = 1, kFailed = 0;

template <typename Work>
auto in_background(Trace& trace, const char* name, std::uint64_t step, Work work) {
  using Result = decltype(work());
  return std::async(std::launch::async, [&trace, name, step, work = std::move(work)] {
    const TraceSpan span(trace, name, "planner", step, 0);
    Timed<Result> timed;
    {
      const Stopwatch watch(timed.seconds);
      timed.result = work();
    }
    return timed;
  });
}

/// No job, or it ends within `time`.
template <typename Result>
bool ends(const std::future<Result>& job, std::chrono::milliseconds time) {
  return !job.valid() || job.wait_for(time) == std::future_status::ready;
}

template <typename Result>
bool runs(const std::future<Result>& job) {
  return !ends(job, std::chrono::milliseconds(0));
}

double bytes_of(const std::vector<Level>& levels, const std::vector<LayerRecord>& layers) {
  double bytes = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    bytes += static_cast<double>(payload_bytes(levels[i], layers[i].shape));
  }
  return bytes;
}

}  // namespace

Planning::Planning(std::vector<LayerRecord>& layers, const AggregatorOptions& options, Place place,
                   Trace& trace, Measure measure)
    : layers_(layers),
      options_(options),
      place_(place),
      trace_(trace),
      measure_(std::move(measure)) {
  check(options_.method);
  check(options_.policy);
  std::vector<Level> references = {options_.method};
  if (const auto* lgreco = std::get_if<LGrecoPolicy>(&options_.policy)) lgreco_ = *lgreco;
  if (const auto* accordion = std::get_if<AccordionPolicy>(&options_.policy)) {
    regimes_.emplace(*accordion, options_.start);
    lgreco_ = accordion->then;
    references = {accordion->low, accordion->high};
  }
  if (lgreco_) {
    for (const LayerRecord& layer : layers_) {
      candidates_.push_back(candidates_of(*lgreco_, references, layer.spec));
      for (const Level& level : candidates_.back()) {
        if (std::find(distinct_levels_.begin(), distinct_levels_.end(), level) ==
            distinct_levels_.end()) {
          distinct_levels_.push_back(level);
        }
      }
    }
    if (lgreco_->network) network_ = *lgreco_->network;
  }
  update_references();
  mark_measured_layers(0);
}

bool Planning::needs_network() const {
  return lgreco_ && lgreco_->objective == LGrecoPolicy::Objective::time && !lgreco_->network;
}

void Planning::update_references() {
  references_.clear();
  const auto* accordion = std::get_if<AccordionPolicy>(&options_.policy);
  for (const LayerRecord& layer : layers_) {
    const Level& asked = accordion == nullptr ? options_.method
                         : layer.critical     ? accordion->low
                                              : accordion->high;
    references_.push_back(resolve(asked, layer.spec));
  }
  const auto* fixed = std::get_if<FixedPolicy>(&options_.policy);
  if (fixed == nullptr) return;
  for (const auto& [name, level] : fixed->levels) {
    const auto found = std::find_if(
        layers_.begin(), layers_.end(),
        [&wanted = name](const LayerRecord& layer) { return layer.spec.name == wanted; });
    if (found == layers_.end()) {
      throw ConfigError("[policy] Fixed: the model has no layer '" + name + "'");
    }
    references_[static_cast<std::size_t>(found - layers_.begin())] = resolve(level, found->spec);
  }
}

Plan Planning::uniform_plan(const std::vector<Level>& levels) const {
  Plan plan;
  plan.levels = levels;
  for (const LayerRecord& layer : layers_) plan.layers.push_back(layer.spec.name);
  plan.bytes = plan.lower_bound = bytes_of(levels, layers_);
  return plan;
}

Plan Planning::first_plan() const {
  if (options_.start == 0) return uniform_plan(references_);
  std::vector<Level> dense;
  for (const LayerRecord& layer : layers_) dense.push_back(resolve(Level{}, layer.spec));
  return uniform_plan(dense);
}

Plan Planning::numbered(Plan plan, std::uint64_t step, const Plan& current) const {
  plan.step = step;
  plan.version = current.version + (plan.levels == current.levels ? 0 : 1);
  return plan;
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
  if (!lgreco_) return false;
  const PlanningSteps at = next_planning(*lgreco_, options_.start, step + 1);
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
    update_references();
    if (references_ != before) next = with_changed_references(now(), before);
  }
  if (lgreco_) {
    if (auto plan = replan(end, stats)) next = std::move(plan);
  }
  if (next) next = numbered(std::move(*next), end.step, current);
  return next;
}

std::optional<Plan> Planning::on_learning_rate_decay(std::uint64_t step, const Plan& current) {
  if (!regimes_) return std::nullopt;
  const std::vector<Level> before = references_;
  regimes_->set_critical(layers_);
  update_references();
  if (references_ == before || step < options_.start) return std::nullopt;
  return numbered(with_changed_references(current, before), step, current);
}

Window Planning::window(std::size_t layer) const {
  if (round_ && round_->windows) return (*round_->windows)[layer];
  if (layers_[layer].window_steps == 0) return {};
  return {layers_[layer].window, layers_[layer].window_steps};
}

void Planning::resume(std::uint64_t step, bool critical) {
  if (round_) {
    (void)ends(round_->rows, patience(options_.timeout));
    (void)ends(round_->solved, patience(options_.timeout));
    drop(std::move(*round_));
    round_.reset();
  }
  if (regimes_) regimes_->critical = critical;
  update_references();
  mark_measured_layers(step);
}

// -- The making of a plan.

std::optional<Plan> Planning::replan(const StepEnd& end, Stats& stats) {
  const PlanningSteps at = next_planning(*lgreco_, options_.start, end.step);
  if (end.step < at.measure) return std::nullopt;
  const TraceSpan span(trace_, "plan", "lane B", end.step, 0);
  if (!round_) begin(at);
  if (end.step >= at.share && !round_->shared) share(end, stats);
  if (end.step < at.effect) return std::nullopt;
  return finish(end, stats);
}

void Planning::mark_measured_layers(std::uint64_t step) {
  if (!lgreco_) return;
  const PlanningSteps at = next_planning(*lgreco_, options_.start, step + 1);
  const auto ranks = measuring_ranks(layers_, candidates_, place_.ranks, at.number);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].measured_here = ranks[i] == place_.rank && candidates_[i].size() > 1;
  }
}

void Planning::begin(const PlanningSteps& at) {
  Round& round = round_.emplace();
  round.at = at;
  round.measuring_ranks = measuring_ranks(layers_, candidates_, place_.ranks, at.number);
  auto windows = std::make_shared<std::vector<Window>>();
  for (LayerRecord& layer : layers_) {
    windows->push_back({std::move(layer.window), layer.window_steps});
    layer.window = {};
    layer.pending_window = {};
    layer.window_steps = 0;
  }
  round.windows = std::move(windows);
  if (late_ && (runs(late_->rows) || runs(late_->solved))) return;  // so this rank is late, too
  late_.reset();
  try {
    round.rows = in_background(trace_, "measure", at.effect,
                               [this, ranks = round.measuring_ranks, windows = round.windows] {
                                 return measure_own_rows(ranks, *windows);
                               });
  } catch (const std::system_error&) {  // no thread to be had: the plan will be dropped
  }
}

Planning::Rows Planning::measure_own_rows(const std::vector<int>& ranks,
                                          const std::vector<Window>& windows) const {
  Rows rows;
  if (lgreco_->objective == LGrecoPolicy::Objective::time) {
    for (const double rate : seconds_per_element(distinct_levels_, place_.ranks)) {
      rows.push_back(static_cast<float>(rate / options_.threads));
    }
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (ranks[i] != place_.rank || candidates_[i].size() < 2) continue;
    const CostRow row = measure_(windows[i], layers_[i].shape, candidates_[i], place_.ranks);
    rows.push_back(row.norm);
    rows.insert(rows.end(), row.errors.begin(), row.errors.end());
  }
  return rows;
}

std::size_t Planning::floats_of_rank(const Round& round, int rank) const {
  std::size_t floats =
      lgreco_->objective == LGrecoPolicy::Objective::time ? distinct_levels_.size() : 0;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (round.measuring_ranks[i] == rank && candidates_[i].size() > 1) {
      floats += 1 + candidates_[i].size();
    }
  }
  return floats;
}

template <typename Result>
std::optional<Result> Planning::result_of(std::future<Timed<Result>>& job,
                                          std::chrono::milliseconds timeout, Stats& stats) const {
  if (!job.valid() || !ends(job, patience(timeout))) return std::nullopt;
  try {
    Timed<Result> timed = job.get();
    stats.plan_s += timed.seconds;
    return std::move(timed.result);
  } catch (...) {  // whatever it was: the ranks are told, and keep their plan
    return std::nullopt;
  }
}

void Planning::share(const StepEnd& end, Stats& stats) {
  Round& round = *round_;
  round.shared = true;
  const std::optional<Rows> own = result_of(round.rows, end.timeout, stats);
  std::vector<std::size_t> bytes;
  for (int rank = 0; rank < place_.ranks; ++rank) {
    bytes.push_back((1 + floats_of_rank(round, rank)) * sizeof(float));
  }
  Messages messages(Messages::Kind::gather, Phase::planning, place_, 0, bytes);
  const std::span<std::byte> body = messages.outgoing(place_.rank);
  const float verdict = own ? kGood : kFailed;
  std::memcpy(body.data(), &verdict, sizeof verdict);
  if (own) std::memcpy(body.data() + sizeof verdict, own->data(), own->size() * sizeof(float));
  messages.exchange(end.communicator, end.frame, Clock::now() + end.timeout);
  std::vector<Rows> of_rank;
  for (int rank = 0; rank < place_.ranks; ++rank) {
    Rows& rows = of_rank.emplace_back(1 + floats_of_rank(round, rank));
    std::memcpy(rows.data(), messages.incoming(rank).data(), rows.size() * sizeof(float));
    round.dropped |= rows[0] != kGood;
  }
  if (round.dropped) return;
  round.references = references_;
  try {
    round.solved = in_background(trace_, "solve", round.at.effect,
                                 [this, of_rank = std::move(of_rank), ranks = round.measuring_ranks,
                                  references = references_, buckets = end.buckets] {
                                   return solve_rows(of_rank, ranks, references, buckets);
                                 });
  } catch (const std::system_error&) {  // as in begin()
  }
}

SolvedPlan Planning::solve_rows(const std::vector<Rows>& of_rank, const std::vector<int>& ranks,
                                const std::vector<Level>& references, std::size_t buckets) const {
  std::vector<std::size_t> at(of_rank.size(), 1);  // behind the verdict
  std::vector<double> rates;
  if (lgreco_->objective == LGrecoPolicy::Objective::time) {
    rates.assign(distinct_levels_.size(), 0.0);
    for (std::size_t rank = 0; rank < of_rank.size(); ++rank) {
      for (double& rate : rates) rate += of_rank[rank][at[rank]++];
    }
    for (double& rate : rates) rate /= static_cast<double>(of_rank.size());
  }
  std::vector<CostRow> rows;
  std::vector<std::vector<double>> codec_seconds;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Candidates& candidates = candidates_[i];
    CostRow& row = rows.emplace_back(CostRow{0, std::vector<float>(candidates.size(), 0)});
    if (candidates.size() > 1) {
      const auto rank = static_cast<std::size_t>(ranks[i]);
      const float* sent = of_rank[rank].data() + at[rank];
      row.norm = sent[0];
      row.errors.assign(sent + 1, sent + 1 + candidates.size());
      at[rank] += 1 + candidates.size();
    }
    if (rates.empty()) continue;
    std::vector<double>& seconds = codec_seconds.emplace_back();
    for (const Level& level : candidates) {
      const auto found = std::find(distinct_levels_.begin(), distinct_levels_.end(), level);
      seconds.push_back(rates[static_cast<std::size_t>(found - distinct_levels_.begin())] *
                        static_cast<double>(layers_[i].shape.count()));
    }
  }
  return solve_plan({.policy = *lgreco_,
                     .layers = layers_,
                     .candidates = candidates_,
                     .rows = rows,
                     .references = references,
                     .ranks = place_.ranks,
                     .buckets = buckets,
                     .network = network_,
                     .codec_seconds = codec_seconds});
}

std::optional<Plan> Planning::finish(const StepEnd& end, Stats& stats) {
  Round round = std::move(*round_);
  round_.reset();
  mark_measured_layers(end.step);
  std::optional<SolvedPlan> solved;
  if (!round.dropped) {
    solved = result_of(round.solved, end.timeout, stats);
    std::optional<Failure> own;
    if (!solved) own = Failure{Failure::Kind::other, "[planning] failed, or was late"};
    const std::uint64_t identity = solved ? solved->plan.hash() | 1 : 0;  // 0 is not compared
    const auto outcome =
        end.commit.agree(end.communicator, end.frame, Clock::now() + end.timeout, own, identity);
    if (outcome.failure || outcome.values_differ) solved.reset();
  }
  if (!solved) {
    ++stats.plan_failures;
    drop(std::move(round));
    return std::nullopt;
  }
  ++stats.plans;
  stats.plan_fallbacks += solved->fallbacks;
  if (references_ == round.references) return std::move(solved->plan);
  return with_changed_references(solved->plan, round.references);
}

// A job that still runs is not waited for.
void Planning::drop(Round round) {
  round.windows = nullptr;
  if (runs(round.rows) || runs(round.solved)) late_ = std::move(round);
}

}  // namespace lgreco
