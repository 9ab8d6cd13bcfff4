#include "src/engine/schedule.h"

#include <algorithm>

namespace lgreco {
namespace {

// Steps from the last gradient collected to the plan's effect: time to make it without any step
// waiting, at most a twentieth of the interval.
constexpr std::uint64_t kLongestLead = 50;
constexpr std::uint64_t kLeadPart = 20;

std::uint64_t minus(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

PlanningSteps next_planning(const LGrecoPolicy& policy, std::uint64_t start, std::uint64_t step) {
  const std::uint64_t first = std::max(policy.start, start);
  const std::uint64_t number = (minus(step, first) + policy.every - 1) / policy.every;
  PlanningSteps at{.number = number, .effect = first + number * policy.every};
  const std::uint64_t free = minus(number == 0 ? first : policy.every, policy.window);
  const std::uint64_t lead = std::min({policy.every / kLeadPart, kLongestLead, free});
  at.measure = at.effect - lead;
  at.share = at.effect - lead / 2;
  at.collect = minus(at.measure, policy.window);
  return at;
}

}  // namespace lgreco
