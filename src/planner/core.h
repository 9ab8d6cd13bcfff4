// The core: what is left to decide when the relaxation has ruled candidates out.
#pragma once

#include <cstdint>
#include <vector>

#include "src/planner/relaxation.h"

namespace lgreco {

/// A candidate, by what it adds to the relaxation's choice in its row.
struct Option {
  double error;
  double cost;
  double reduced_cost;  // >= 0: by how much the bound rises when this candidate is forced
  std::uint32_t position;
};

struct CoreRow {
  std::size_t row;
  std::vector<Option> options;  // by ascending error; at least two, the relaxation's choice is one
};

/// Rows with two or more candidates whose reduced cost is at most `distance`. First come those
/// whose best alternative is nearest to the relaxation's multiplier: decided early, they leave
/// rows that can use or give budget only at a loss, which makes the bound of the rest strong.
std::vector<CoreRow> core_of(const Knapsack& knapsack, const Relaxation& relaxation,
                             double distance);

/// The largest number whose multiples are all cost differences of the core; 0 when it is not above
/// `least` or a cost is not an integer.
double cost_unit(const Knapsack& knapsack, const std::vector<CoreRow>& core, double least);

}  // namespace lgreco
