// When a plan is made: the steps that LGrecoPolicy leads to.
#pragma once

#include <cstdint>

#include "lgreco/policy.h"

namespace lgreco {

/// The making of one plan. Gradients are collected in [collect, measure); from then on the layers
/// are measured in the background; at `share` the ranks exchange their rows and solve them in the
/// background; at `effect` they agree and use the plan.
struct PlanningSteps {
  std::uint64_t number = 0;  // 0, 1, 2, ...
  std::uint64_t collect = 0;
  std::uint64_t measure = 0;
  std::uint64_t share = 0;
  std::uint64_t effect = 0;
};

/// Those of the first plan that takes effect at `step` or later. Nothing is planned before `start`,
/// where compression starts.
PlanningSteps next_planning(const LGrecoPolicy& policy, std::uint64_t start, std::uint64_t step);

}  // namespace lgreco
