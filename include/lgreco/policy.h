// Policies: when a plan is made, and from which candidates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <variant>

#include "lgreco/level.h"
#include "lgreco/planner.h"

namespace lgreco {

/// Every layer at the reference level.
struct UniformPolicy {
  bool operator==(const UniformPolicy&) const = default;
};

/// Levels by layer name; layers not named get the reference level.
struct FixedPolicy {
  std::map<std::string, Level> levels;
};

/// L-GreCo (MLSys 2024): fewest bytes within the error the reference would cause, re-planned every
/// `every` steps from the mean of the last `window` corrected gradients.
struct LGrecoPolicy {
  /// Steps between plans, and the step of the first one; the reference level is used until then.
  std::uint64_t every = 1000;
  std::uint64_t start = 1000;
  std::uint64_t window = 10;
  /// Candidates for every layer; empty: neighbours(reference).
  std::vector<Level> candidates;
  /// Budget = alpha * the reference's error.
  double alpha = 1.0;
  enum class Budget : std::uint8_t { norm, squared } budget = Budget::norm;
  Solver solver = Solver::exact;
  /// true: only layers that the reference level compresses take part; false: all of them.
  bool reference_layers_only = false;
};

using Policy = std::variant<UniformPolicy, FixedPolicy, LGrecoPolicy>;

/// Throws ConfigError naming the setting that is out of range.
void check(const Policy& policy);

}  // namespace lgreco
