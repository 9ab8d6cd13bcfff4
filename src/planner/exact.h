// The exact solver: a dynamic programme over the core, pruned by the relaxation of the rest.
#pragma once

#include "src/planner/knapsack.h"

namespace lgreco {

struct ExactResult {
  Selection selection;
  /// Equal to selection.cost when the search was completed.
  double lower_bound = 0;
};

/// Rows of the core are decided one after another (Pisinger 1995). A list holds the undominated
/// choices for the rows decided so far; a choice goes when the linear relaxation of the other rows
/// cannot bring its cost below a guess of the optimum, which is first too low and then raised until
/// a selection inside it proves it. After `max_states` (see SolveOptions) the least bound in the
/// list is the lower bound, and only the most promising choices go on. Deterministic.
/// REQUIRES: the smallest errors of all rows together are within the budget.
ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states);

}  // namespace lgreco
