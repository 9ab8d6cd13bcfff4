// Planning: when the plan changes, and how the next one is made.
//
// Every rank measures the errors of every candidate on the mean of its own last corrected
// gradients, the ranks average the tables, and each solves the same instance. Nothing but the table
// is sent.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lgreco/aggregator.h"
#include "src/engine/layer_record.h"

namespace lgreco {

class Planning {
 public:
  /// Throws ConfigError on a setting out of range or a name in a fixed plan that is no layer.
  Planning(const std::vector<LayerRecord>& layers, const AggregatorOptions& options);

  /// The plan of step 0.
  Plan first_plan() const;
  /// True when the corrected gradients of `step` count for the next plan.
  bool collects(std::uint64_t step) const;
  /// True when a plan other than the current one may take effect at `step`.
  bool due(std::uint64_t step) const;

  /// The plan from `step` on, given the current one. Collective when a table is needed. Empties the
  /// windows. Adds to stats.plans and stats.plan_fallbacks.
  Plan next_plan(std::uint64_t step, const Plan& current, std::vector<LayerRecord>& layers,
                 Communicator& communicator, Deadline deadline, Stats& stats) const;

 private:
  /// One layer's candidates: distinct resolved levels, the reference first.
  using Candidates = std::vector<Level>;

  Plan uniform_plan(const std::vector<Level>& levels) const;
  /// The next plan step after `step`, if the policy makes any.
  std::optional<std::uint64_t> next_planning_step(std::uint64_t step) const;
  /// Per layer: the norm, then the error of each candidate, averaged over the ranks.
  std::vector<float> error_table(std::uint64_t step, std::uint64_t plan,
                                 std::vector<LayerRecord>& layers, Communicator& communicator,
                                 Deadline deadline) const;
  /// Fill levels, bytes, error, budget and bound from the table.
  void solve_table(const std::vector<float>& table, Plan& plan, Stats& stats) const;

  AggregatorOptions options_;
  std::vector<LayerSpec> specs_;
  /// What each layer gets by the reference level or by a fixed plan.
  std::vector<Level> reference_;
  std::vector<Candidates> candidates_;  // empty unless the policy plans
};

}  // namespace lgreco
