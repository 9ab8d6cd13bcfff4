// One plan in the making: its measurements, its exchange of rows, its solution.
//
// Measuring and solving run on a thread of their own; share() and agree() are collective.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lgreco/options.h"
#include "lgreco/state.h"
#include "src/engine/agreement.h"
#include "src/engine/background_job.h"
#include "src/engine/cost_table.h"
#include "src/engine/membership.h"
#include "src/engine/plan_solver.h"
#include "src/engine/schedule.h"
#include "src/engine/trace.h"

namespace lgreco {

/// What is at hand between two steps: how the ranks talk, and what they agree on.
struct StepEnd {
  std::uint64_t step = 0;  // the next one
  Frame frame;
  Terms terms;
  std::size_t buckets = 1;
  double grad_scale = 1.0;
  Communicator& communicator;
  CommitRound& commit;
};

/// What all plans of a run are made from.
struct PlanMaking {
  /// How one layer is measured: `measure_row`, but in tests.
  using Measure =
      std::function<CostRow(const Window&, const MatrixShape&, const Candidates&, int ranks)>;

  LGrecoPolicy policy;
  const Membership& membership;
  Trace& trace;
  Measure measure;
  int threads = 1;
  std::chrono::milliseconds timeout{};
  Network network = {};
  std::vector<Candidates> candidates;  // by layer of the membership, as everything here
  std::vector<Level> distinct_levels;  // of all candidates
  /// Of the distinct levels, for plans for time; filled by the first measurement.
  std::vector<double> codec_rates;

  Place place() const { return membership.place; }
  bool for_time() const { return policy.objective == LGrecoPolicy::Objective::time; }
};

class PlanRound {
 public:
  /// `windows` by layer of this rank, of gradients times `grad_scale`. `making` must outlive it.
  PlanRound(PlanMaking& making, const PlanningSteps& at, std::vector<Window> windows,
            double grad_scale);
  /// Waits until the thread has noticed that nobody wants its result.
  ~PlanRound() { give_up(); }
  PlanRound(const PlanRound&) = delete;
  PlanRound& operator=(const PlanRound&) = delete;

  /// Begin to measure this rank's layers. Without it this rank will say that it failed.
  void start_measuring();

  /// Collective: exchange the rows and begin to solve the table under `references`.
  void share(const StepEnd& end, const std::vector<Level>& references, Stats& stats);
  bool is_shared() const { return is_shared_; }

  /// Collective: the plan under `references`, or nothing when some rank has none. REQUIRES:
  /// is_shared().
  std::optional<SolvedPlan> agree(const StepEnd& end, const std::vector<Level>& references,
                                  Stats& stats);

  /// Why there is no plan, once some rank has none.
  const std::string& failure() const { return failure_; }

  /// The thread may end before its work is done.
  void give_up() { given_up_ = true; }
  bool runs() const;
  /// The thread ends within `time`.
  bool ends_within(std::chrono::milliseconds time) const;

  /// Gradients were multiplied by `scale` all along, which was not known. Plans in the making need
  /// not know: all their errors are too large by the same factor.
  void declare_grad_scale(double scale) { grad_scale_ = scale; }
  /// Of a layer of this rank; of gradients times `grad_scale`.
  Window window(std::size_t layer, double grad_scale) const;

 private:
  using Rows = std::vector<float>;  // as they travel

  template <typename Result, typename Work>
  void start(BackgroundJob<Result>& job, const char* name, Work work);
  template <typename Result>
  std::optional<Result> result_of(BackgroundJob<Result>& job, Stats& stats);

  Rows measure() const;
  std::size_t floats_of(std::size_t rank) const;
  void start_solving(const std::vector<Level>& references);
  SolvedPlan solve(const std::vector<Level>& references) const;

  PlanMaking& making_;
  const PlanningSteps at_;
  const std::vector<Window> windows_;
  double grad_scale_;
  const double unscale_;  // from `windows` to the caller's gradients
  std::vector<std::vector<std::size_t>> layers_of_rank_;  // that it measures
  std::vector<Rows> of_rank_;                             // shared
  std::size_t buckets_ = 1;
  std::vector<Level> references_;  // that it is solved under
  bool is_shared_ = false;
  bool is_dropped_ = false;  // on all ranks
  std::string failure_;
  std::atomic<bool> given_up_{false};
  BackgroundJob<Rows> rows_;
  BackgroundJob<SolvedPlan> solved_;
};

}  // namespace lgreco
