// The linear relaxation of the knapsack, solved by its convex hulls (Dyer 1984, Zemel 1984).
#pragma once

#include "src/planner/knapsack.h"

namespace lgreco {

struct Relaxation {
  /// Cost saved per unit of error at the optimum of the relaxation.
  double multiplier = 0;
  /// Lagrangian bound at `multiplier`: no selection within the budget costs less.
  double lower_bound = 0;
  /// The relaxation's optimum without its fractional row: a vertex of each row's hull, within the
  /// budget but for a rounding.
  std::vector<std::size_t> base;
  /// The same, or the smallest errors where a rounding puts it outside the budget.
  Selection rounded;
};

/// REQUIRES: the smallest errors of all rows together are within the budget.
Relaxation relax(const Knapsack& knapsack);

}  // namespace lgreco
