// A plan: one level per layer, the same on every rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lgreco/level.h"

namespace lgreco {

struct Plan {
  /// In registration order; `levels[i]` is what layer `layers[i]` really gets (already resolved).
  std::vector<std::string> layers;
  std::vector<Level> levels;
  /// 0 for the first plan; grows by one with each change.
  std::uint64_t version = 0;
  /// The first step that uses it.
  std::uint64_t step = 0;
  /// Payload bytes of the whole model (see payload_bytes); never more than the reference's.
  double bytes = 0;
  /// Summed error against the budget, from the table the plan was solved on; 0 when not planned.
  double error = 0;
  double budget = 0;
  /// No plan within the budget has fewer bytes.
  double lower_bound = 0;

  /// XXH3-64 of names and levels: equal plans, equal hashes, on every machine.
  std::uint64_t hash() const;
};

}  // namespace lgreco
