// The exact solver: Lagrangian reduction and a dynamic programme over the states that survive.
#pragma once

#include "src/planner/knapsack.h"

namespace lgreco {

struct ExactResult {
  Selection selection;
  /// Equal to selection.cost when the search was completed.
  double lower_bound = 0;
};

/// Every selection costs the Lagrangian bound plus the reduced costs of its candidates plus the
/// price of the budget it leaves; so candidates and partial sums whose reduced cost exceeds the
/// distance from bound to best known cost are out. That distance is first guessed small and doubled
/// until a solution inside it proves it. After `max_states` states the best found is returned with
/// the bound. Deterministic.
/// REQUIRES: the smallest errors of all rows together are within the budget.
ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states = 4'000'000);

}  // namespace lgreco
