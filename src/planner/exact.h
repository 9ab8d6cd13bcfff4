// The exact solver: a dynamic programme over the partial sums that can still be optimal.
#pragma once

#include "src/planner/knapsack.h"

namespace lgreco {

struct ExactResult {
  Selection selection;
  /// Equal to selection.cost when the search was completed.
  double lower_bound = 0;
};

/// Row by row, keeps the undominated partial sums whose Lagrangian bound, at several multipliers, is
/// within a limit on the cost. The limit is first guessed close to the bound of the relaxation: a
/// search that finds a selection has found the optimum, one that does not has raised the bound.
/// After `max_states` generated states the best found is returned with the bound proven so far.
/// Sums are taken in row order, so that the optimum is that of the rounded numbers. Deterministic.
/// REQUIRES: the smallest errors of all rows together are within the budget, which is finite.
ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states = 4'000'000);

}  // namespace lgreco
