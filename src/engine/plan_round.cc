#include "src/engine/plan_round.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

#include "lgreco/status.h"
#include "src/engine/codec_rates.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

// How long a step waits for its own planner before all ranks drop the plan. In a usual run many
// steps lie between measuring and effect, and nothing waits; with short intervals waiting keeps
// runs reproducible.
constexpr std::chrono::seconds kPatience(10);

// What precedes a rank's rows.
constexpr float kGood = 1, kFailed = 0;

std::size_t index_of(const Level& level, const std::vector<Level>& levels) {
  return static_cast<std::size_t>(std::find(levels.begin(), levels.end(), level) - levels.begin());
}

}  // namespace

PlanRound::PlanRound(PlanMaking& making, const PlanningSteps& at, std::vector<Window> windows,
                     double grad_scale)
    : making_(making),
      at_(at),
      windows_(std::move(windows)),
      grad_scale_(grad_scale),
      unscale_(1 / grad_scale),
      layers_of_rank_(static_cast<std::size_t>(making.place().ranks)) {
  const auto ranks = measuring_ranks(making.membership, making.candidates, at.number);
  for (std::size_t layer = 0; layer < ranks.size(); ++layer) {
    if (making.candidates[layer].size() < 2) continue;  // there is nothing to choose
    layers_of_rank_[static_cast<std::size_t>(ranks[layer])].push_back(layer);
  }
}

bool PlanRound::runs() const { return !ends_within(std::chrono::milliseconds(0)); }

bool PlanRound::ends_within(std::chrono::milliseconds time) const {
  return rows_.ends_within(time) && solved_.ends_within(time);
}

Window PlanRound::window(std::size_t layer, double grad_scale) const {
  Window window = windows_[layer];
  if (grad_scale != grad_scale_) {
    kernels::scale(window.sum.data(), static_cast<float>(grad_scale / grad_scale_),
                   window.sum.size(), window.sum.data());
  }
  return window;
}

template <typename Result, typename Work>
void PlanRound::start(BackgroundJob<Result>& job, const char* name, Work work) {
  job.start([this, name, work = std::move(work)] {
    const TraceSpan span(making_.trace, name, "planner", at_.effect, 0);
    return work();
  });
}

template <typename Result>
std::optional<Result> PlanRound::result_of(BackgroundJob<Result>& job, Stats& stats) {
  const auto patience = std::min<std::chrono::milliseconds>(kPatience, making_.timeout / 4);
  std::string failure;
  std::optional<Result> result = job.take(patience, stats.plan_s, failure);
  if (!result) failure_ = "[planning] " + failure;
  return result;
}

// -- Measuring. Rows travel as floats: the rates of the distinct levels in plans for time, then of
// each layer its norm and the error of each candidate.

void PlanRound::start_measuring() {
  start(rows_, "measure", [this] { return measure(); });
}

PlanRound::Rows PlanRound::measure() const {
  Rows rows;
  const Membership& membership = making_.membership;
  const int ranks = membership.averaging_ranks();
  if (making_.for_time()) {
    if (making_.codec_rates.empty()) {
      making_.codec_rates = seconds_per_element(making_.distinct_levels, ranks);
    }
    for (const double rate : making_.codec_rates) {
      rows.push_back(static_cast<float>(rate / making_.threads));
    }
  }
  const auto unscale = static_cast<float>(unscale_);
  const std::vector<std::size_t>& here = membership.here();
  for (const std::size_t i : layers_of_rank_[static_cast<std::size_t>(membership.place.rank)]) {
    if (given_up_) break;
    const auto own = static_cast<std::size_t>(std::ranges::find(here, i) - here.begin());
    const CostRow row =
        making_.measure(windows_[own], membership.layers[i].shape, making_.candidates[i], ranks);
    rows.push_back(row.norm * unscale);
    for (const float error : row.errors) rows.push_back(error * unscale);
  }
  return rows;
}

std::size_t PlanRound::floats_of(std::size_t rank) const {
  std::size_t floats = making_.for_time() ? making_.distinct_levels.size() : 0;
  for (const std::size_t layer : layers_of_rank_[rank]) {
    floats += 1 + making_.candidates[layer].size();
  }
  return floats;
}

void PlanRound::share(const StepEnd& end, const std::vector<Level>& references, Stats& stats) {
  is_shared_ = true;
  buckets_ = end.buckets;
  const auto rank = static_cast<std::size_t>(making_.place().rank);
  std::optional<Rows> own = result_of(rows_, stats);
  if (own && own->size() != floats_of(rank)) own.reset();
  std::vector<std::size_t> bytes;
  for (std::size_t r = 0; r < layers_of_rank_.size(); ++r) {
    bytes.push_back((1 + floats_of(r)) * sizeof(float));
  }
  Messages messages(Messages::Kind::gather, Phase::planning, making_.place(), 0, bytes);
  const std::span<std::byte> body = messages.outgoing(making_.place().rank);
  const float verdict = own ? kGood : kFailed;
  std::memcpy(body.data(), &verdict, sizeof verdict);
  if (own) {
    const auto rows = std::as_bytes(std::span(*own));
    std::copy(rows.begin(), rows.end(), body.begin() + sizeof verdict);
  }
  // Also without rows: the others wait for a message of this size, whose verdict drops the plan.
  messages.exchange(end.communicator, end.frame, Clock::now() + making_.timeout);
  for (std::size_t r = 0; r < layers_of_rank_.size(); ++r) {
    const std::byte* received = messages.incoming(static_cast<int>(r)).data();
    float good;
    std::memcpy(&good, received, sizeof good);
    if (good != kGood) {
      is_dropped_ = true;
      if (failure_.empty()) {
        failure_ = "[planning] rank " + std::to_string(r) + " could not measure its layers in time";
      }
    }
    const auto rows = std::as_writable_bytes(std::span(of_rank_.emplace_back(floats_of(r))));
    std::copy_n(received + sizeof good, rows.size(), rows.begin());
  }
  if (!is_dropped_) start_solving(references);
}

// -- Solving.

void PlanRound::start_solving(const std::vector<Level>& references) {
  references_ = references;
  start(solved_, "solve", [this, references] { return solve(references); });
}

SolvedPlan PlanRound::solve(const std::vector<Level>& references) const {
  // Each rank's numbers are read in the order in which its measure() wrote them.
  std::vector<std::span<const float>> unread(of_rank_.begin(), of_rank_.end());
  const auto take = [&](std::size_t rank, std::size_t floats) {
    const auto taken = unread[rank].first(floats);
    unread[rank] = unread[rank].subspan(floats);
    return taken;
  };
  std::vector<double> rates;
  if (making_.for_time()) {
    rates.assign(making_.distinct_levels.size(), 0.0);
    for (std::size_t rank = 0; rank < unread.size(); ++rank) {
      const auto own = take(rank, rates.size());
      for (std::size_t i = 0; i < rates.size(); ++i) rates[i] += own[i];
    }
    for (double& rate : rates) rate /= static_cast<double>(unread.size());
  }
  std::vector<LevelRow> rows;
  const std::vector<ModelLayer>& layers = making_.membership.layers;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const Candidates& levels = making_.candidates[layer];
    const MatrixShape& shape = layers[layer].shape;
    LevelRow& row = rows.emplace_back(LevelRow{.name = layers[layer].spec.name,
                                               .levels = levels,
                                               .bytes = {},
                                               .errors = std::vector<double>(levels.size()),
                                               .norm = 0,
                                               .reference = index_of(references[layer], levels),
                                               .dense = levels.size() - 1});
    for (const Level& level : levels) {
      row.bytes.push_back(static_cast<double>(payload_bytes(level, shape)));
      if (!making_.for_time()) continue;
      row.codec_seconds.push_back(rates[index_of(level, making_.distinct_levels)] *
                                  static_cast<double>(shape.count()));
    }
  }
  for (std::size_t rank = 0; rank < unread.size(); ++rank) {
    for (const std::size_t layer : layers_of_rank_[rank]) {
      rows[layer].norm = take(rank, 1)[0];
      const auto errors = take(rank, rows[layer].errors.size());
      rows[layer].errors.assign(errors.begin(), errors.end());
    }
  }
  return solve_plan({.policy = making_.policy,
                     .layers = rows,
                     .ranks = making_.membership.averaging_ranks(),
                     .buckets = buckets_,
                     .network = making_.network});
}

std::optional<SolvedPlan> PlanRound::agree(const StepEnd& end, const std::vector<Level>& references,
                                           Stats& stats) {
  if (is_dropped_) return std::nullopt;
  std::optional<SolvedPlan> solved = result_of(solved_, stats);
  if (solved && references != references_) {  // Accordion decided in between
    start_solving(references);
    solved = result_of(solved_, stats);
  }
  std::optional<Failure> own;
  if (!solved) own = Failure{Failure::Kind::other, failure_};
  const std::uint64_t identity = solved ? solved->plan.hash() | 1 : 0;  // 0 is not compared
  Terms terms = end.terms;
  terms.purpose = Terms::Purpose::plan;
  const auto outcome =
      end.commit.agree(end.communicator, end.frame.sequence, Clock::now() + making_.timeout,
                       {.failure = own, .value = identity}, terms);
  if (outcome.failure) failure_ = outcome.failure->message;
  if (outcome.values_differ) failure_ = "[planning] the ranks came to different plans";
  if (outcome.failure || outcome.values_differ) return std::nullopt;
  return solved;
}

}  // namespace lgreco
