#include "lgreco/policy.h"

#include <cmath>
#include <string>

#include "lgreco/status.h"
#include "src/base/overloaded.h"

namespace lgreco {
namespace {

void check_lgreco(const LGrecoPolicy& policy) {
  if (policy.every < 1 || policy.start < 1 || policy.window < 1) {
    throw ConfigError("[policy] LGreCo: every, start and window must be at least 1");
  }
  if (policy.window > policy.every) {
    throw ConfigError("[policy] LGreCo: window " + std::to_string(policy.window) +
                      " is longer than every " + std::to_string(policy.every));
  }
  if (!(policy.alpha > 0) || !std::isfinite(policy.alpha)) {
    throw ConfigError("[policy] LGreCo: alpha must be positive and finite");
  }
  for (const Level& level : policy.candidates) check(level);
  if (policy.network) check(*policy.network);
}

void check_accordion(const AccordionPolicy& policy) {
  check(policy.low);
  check(policy.high);
  if (policy.every < 1) throw ConfigError("[policy] Accordion: every must be at least 1");
  if (!(policy.threshold > 0) || !std::isfinite(policy.threshold)) {
    throw ConfigError("[policy] Accordion: threshold must be positive and finite");
  }
  if (policy.then) check_lgreco(*policy.then);
}

}  // namespace

void check(const Policy& policy) {
  std::visit(Overloaded{
                 [](const UniformPolicy&) {},
                 [](const FixedPolicy& fixed) {
                   for (const auto& [name, level] : fixed.levels) check(level);
                 },
                 [](const LGrecoPolicy& lgreco) { check_lgreco(lgreco); },
                 [](const AccordionPolicy& accordion) { check_accordion(accordion); },
             },
             policy);
}

}  // namespace lgreco
