// Planning: when the plan changes, and how the next one is made.
//
// Each rank measures its share of the layers on the mean of its own last corrected gradients, the
// ranks exchange their rows, and every rank solves the same table. Measuring and solving run on a
// background thread; the steps go on meanwhile. A rank that fails or is late makes all ranks keep
// the old plan.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <vector>

#include "lgreco/aggregator.h"
#include "src/engine/agreement.h"
#include "src/engine/layer_record.h"
#include "src/engine/plan_solver.h"
#include "src/engine/regimes.h"
#include "src/engine/schedule.h"
#include "src/engine/trace.h"

namespace lgreco {

/// What a job made, and how long it took.
template <typename Result>
struct Timed {
  Result result;
  double seconds = 0;
};

class Planning {
 public:
  /// How one layer is measured: `measure_row`, but in tests.
  using Measure =
      std::function<CostRow(const Window&, const MatrixShape&, const Candidates&, int ranks)>;

  /// Throws ConfigError on a setting out of range or a name in a fixed plan that is no layer.
  /// `layers` must outlive it; the rest of them belongs to the caller whenever no call is made.
  Planning(std::vector<LayerRecord>& layers, const AggregatorOptions& options, Place place,
           Trace& trace, Measure measure = measure_row);

  /// The plan of step 0.
  Plan first_plan() const;
  /// True when plans minimise time and no network was given: then set_network() must be called.
  bool needs_network() const;
  void set_network(const Network& network) { network_ = network; }

  /// What a step must record of its layers.
  bool collects_windows(std::uint64_t step) const;  // of the layers marked `measured_here`
  bool sums_averages(std::uint64_t step) const;

  /// Everything that the last collective of a step has at hand.
  struct StepEnd {
    std::uint64_t step = 0;  // the next one
    Frame frame;
    std::size_t buckets = 1;
    double grad_scale = 1.0;
    Communicator& communicator;
    CommitRound& commit;
    std::chrono::milliseconds timeout;
  };
  /// Call after each committed step, on every rank: the plan from the next step on, if it changes.
  /// Collective at the steps where a plan is shared and takes effect.
  std::optional<Plan> after_step(const StepEnd& end, const Plan& current, Stats& stats);

  /// Low compression until the next decision of Accordion; nothing under other policies.
  std::optional<Plan> on_learning_rate_decay(std::uint64_t step, const Plan& current);
  bool in_critical_regime() const { return !regimes_ || regimes_->critical; }

  /// The window of a layer, wherever it is; for the state.
  Window window(std::size_t layer) const;
  /// Go on at `step` from what the layers hold: drops what is being made.
  void resume(std::uint64_t step, bool critical);

 private:
  using Rows = std::vector<float>;  // as they travel

  /// A plan in the making.
  struct Round {
    PlanningSteps at;
    std::vector<int> measuring_ranks;                    // by layer
    std::shared_ptr<const std::vector<Window>> windows;  // by layer
    std::future<Timed<Rows>> rows;
    std::future<Timed<SolvedPlan>> solved;
    std::vector<Level> references;  // that it is solved for
    bool shared = false;
    bool dropped = false;  // on all ranks
  };

  Plan uniform_plan(const std::vector<Level>& levels) const;
  Plan numbered(Plan plan, std::uint64_t step, const Plan& current) const;
  void update_references();
  Plan with_changed_references(const Plan& current, const std::vector<Level>& before) const;
  std::optional<Plan> replan(const StepEnd& end, Stats& stats);
  void mark_measured_layers(std::uint64_t step);
  void begin(const PlanningSteps& at);
  void share(const StepEnd& end, Stats& stats);
  std::optional<Plan> finish(const StepEnd& end, Stats& stats);
  void drop(Round round);
  Rows measure_own_rows(const std::vector<int>& ranks, const std::vector<Window>& windows) const;
  std::size_t floats_of_rank(const Round& round, int rank) const;
  SolvedPlan solve_rows(const std::vector<Rows>& of_rank, const std::vector<int>& ranks,
                        const std::vector<Level>& references, std::size_t buckets) const;
  template <typename Result>
  std::optional<Result> result_of(std::future<Timed<Result>>& job,
                                  std::chrono::milliseconds timeout, Stats& stats) const;

  std::vector<LayerRecord>& layers_;
  AggregatorOptions options_;
  Place place_;
  Trace& trace_;
  Measure measure_;
  /// Of the policy, or of what follows Accordion.
  std::optional<LGrecoPolicy> lgreco_;
  std::optional<Regimes> regimes_;
  Network network_;
  /// What each layer gets by the reference level, a fixed plan, or Accordion's decision.
  std::vector<Level> references_;
  std::vector<Candidates> candidates_;  // empty unless plans are solved
  std::vector<Level> distinct_levels_;  // of all candidates
  std::optional<Round> round_;
  std::optional<Round> late_;  // its job still runs, but nobody waits for it any more
};

}  // namespace lgreco
