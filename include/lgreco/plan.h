// A plan: one level per layer, the same on every rank.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lgreco/level.h"

namespace lgreco {

/// What a level costs a layer.
struct Estimate {
  double bytes = 0;    // payload
  double error = 0;    // L2 norm of what one compression loses, in units of the gradient
  double seconds = 0;  // to encode, send and decode; only in plans made for time

  bool operator==(const Estimate&) const = default;
};

/// Why a layer has the level it has.
enum class Reason : std::uint8_t {
  least_bytes = 0,  // within the budget
  least_time = 1,   // within the budget
  dense_is_faster = 2,
  only_candidate = 3,
  not_measured = 4,  // the gradient was zero or not finite: the reference
  nothing_fits = 5,  // no plan is within the budget
};

/// In words, as plans show it.
std::string_view name_of(Reason reason);
/// The inverse. Throws ConfigError on other words.
Reason parse_reason(std::string_view name);

struct LayerEstimate {
  Reason reason = Reason::least_bytes;
  Estimate chosen, reference, dense;

  bool operator==(const LayerEstimate&) const = default;
};

struct Plan {
  /// In registration order; `levels[i]` is what layer `layers[i]` really gets (already resolved).
  std::vector<std::string> layers;
  std::vector<Level> levels;
  /// By layer; empty when the plan was not made from measurements.
  std::vector<LayerEstimate> estimates;
  /// 0 for the first plan; grows by one with each change.
  std::uint64_t version = 0;
  /// The step from which on it was made to be used; also a plan equal to the one before has its
  /// own.
  std::uint64_t step = 0;
  /// Payload bytes of the whole model (see payload_bytes). Planned for bytes: never more than the
  /// reference's.
  double bytes = 0;
  /// Summed harm in the budget's measure, from the table the plan was solved on; 0 when not
  /// planned.
  double error = 0;
  double budget = 0;
  /// No plan within the budget has fewer bytes; 0 when nothing is proven: not planned, or for time.
  double lower_bound = 0;

  /// XXH3-64 of names, levels and wire versions of their methods: equal plans, equal hashes, on
  /// every machine.
  std::uint64_t hash() const;
};

}  // namespace lgreco
