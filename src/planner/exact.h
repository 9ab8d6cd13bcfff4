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
/// cannot make it cheaper than the best selection known. Before a row would examine more than
/// `max_states` choices in all, the search stops with the best selection and the least bound in the
/// list. Deterministic.
/// REQUIRES: the smallest errors of all rows together are within the budget.
ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states);

}  // namespace lgreco
