// From a table of levels to a plan: the rules by which a layer's level is chosen, for runs and for
// `lgreco plan` alike.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lgreco/plan.h"
#include "lgreco/policy.h"

namespace lgreco {

/// What one layer may have, and what that does to it: parallel arrays by candidate.
struct LevelRow {
  std::string name;
  std::vector<Level> levels;   // as resolved for the layer
  std::vector<double> bytes;   // payload
  std::vector<double> errors;  // L2 norms of what is lost
  /// The layer's L2 norm: 0, NaN or infinite when it was not measured, nothing when the table does
  /// not tell.
  std::optional<double> norm;
  std::size_t reference = 0;         // which of the candidates
  std::optional<std::size_t> dense;  // which sends the layer as it is; known for Objective::time
  std::vector<double> codec_seconds = {};  // to encode and decode; for Objective::time
};

struct PlanProblem {
  const LGrecoPolicy& policy;  // of which budget, alpha, objective and solver are read
  std::span<const LevelRow> layers;

  // -- Objective::time only.

  int ranks = 1;
  std::size_t buckets = 1;
  Network network = {};
};

struct SolvedPlan {
  /// Levels, estimates (of dense zeros where it is not known), and what they sum up to; the rest is
  /// the caller's.
  Plan plan;
  /// Layers that keep their reference because they were not measured.
  std::size_t fallbacks = 0;
  /// False when nothing is within the budget.
  bool feasible = true;
};

/// Pure and deterministic: equal problems give equal plans on every rank. Throws ConfigError on
/// arrays of different length and numbers that `solve` refuses.
SolvedPlan solve_plan(const PlanProblem& problem);

}  // namespace lgreco
