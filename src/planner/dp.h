// The paper's solver: a dynamic programme over the error axis cut into cells.
#pragma once

#include "src/planner/knapsack.h"

namespace lgreco {

/// The least cost whose errors, each rounded up to whole cells of budget / cells, are within the
/// budget; then `improve`d with the exact errors. O(cells * candidates).
/// REQUIRES: the smallest errors of all rows together are within the budget, cells > 0.
/// The smallest errors may still not fit once they are rounded: then they are the start.
Selection solve_dp(const Knapsack& knapsack, std::size_t cells);

}  // namespace lgreco
