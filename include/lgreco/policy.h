// Policies: when a plan is made, and from which candidates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lgreco/budget.h"
#include "lgreco/level.h"
#include "lgreco/network.h"
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
/// `every` steps from the mean of `window` corrected gradients.
struct LGrecoPolicy {
  /// Steps between plans, and the step at which the first one takes effect; until then every layer
  /// has its reference level. A plan is measured and solved in the background during the last
  /// every / 20 steps before its own, at most 50.
  std::uint64_t every = 1000;
  std::uint64_t start = 1000;
  std::uint64_t window = 10;
  /// Candidates for every layer; empty: neighbours(reference).
  std::vector<Level> candidates;
  /// Budget = alpha * the reference's harm, in the measure `budget`.
  double alpha = 1.0;
  Budget budget = Budget::norm;
  enum class Objective : std::uint8_t {
    bytes,  // fewest payload bytes
    time,   // least seconds to encode, send and decode, when nothing is hidden behind compute
  } objective = Objective::bytes;
  /// Objective::time: over which network; measured at the start when not given.
  std::optional<Network> network;
  Solver solver = Solver::exact;
  /// true: only layers that the reference level compresses take part; false: all of them.
  bool reference_layers_only = false;
};

/// Accordion (Agarwal et al., MLSys 2021): low compression in critical regimes, high elsewhere.
///
/// The detector compares, every `every` steps, the L2 norm of a layer's averaged gradient summed
/// over these steps with that of the interval before: a change by `threshold` or more (relative to
/// the older) is a critical regime, and so is an older norm of zero. All layers are critical until
/// two intervals can be compared, and from a decay of the learning rate to the next comparison.
struct AccordionPolicy {
  /// The reference levels in critical regimes and outside of them.
  Level low, high;
  std::uint64_t every = 1000;
  double threshold = 0.5;
  /// Plan under the error that the levels chosen by the detector would cause. Its candidates:
  /// those given, or the neighbours of both levels.
  std::optional<LGrecoPolicy> then;
};

using Policy = std::variant<UniformPolicy, FixedPolicy, LGrecoPolicy, AccordionPolicy>;

/// Throws ConfigError naming the setting that is out of range.
void check(const Policy& policy);

}  // namespace lgreco
