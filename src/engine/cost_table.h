// The cost table that a plan is solved on: which levels a layer may have, and what they lose of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lgreco/level.h"
#include "lgreco/policy.h"
#include "src/engine/membership.h"

namespace lgreco {

/// What is fixed of a layer's row: distinct resolved levels, dense (or the layer's own type) last.
using Candidates = std::vector<Level>;

/// The levels that `layer` may have when its reference is one of `references` (one, or Accordion's
/// two).
Candidates candidates_of(const LGrecoPolicy& policy, std::span<const Level> references,
                         const LayerSpec& layer);

/// The rest of a row. Not measured: everything is NaN.
struct CostRow {
  float norm;
  std::vector<float> errors;  // by candidate
};

/// A sum of corrected gradients and of how many; empty: none.
struct Window {
  std::vector<float> sum;
  std::uint64_t steps = 0;
};

/// Which of its holders measures each layer for plan `number`: balanced by cost, and another in
/// each plan, so that no rank's gradients decide alone.
std::vector<int> measuring_ranks(const Membership& membership,
                                 std::span<const Candidates> candidates, std::uint64_t number);

/// The row of one layer, from the mean of its window, when `ranks` ranks sum it.
CostRow measure_row(const Window& window, const MatrixShape& shape, const Candidates& candidates,
                    int ranks);

}  // namespace lgreco
