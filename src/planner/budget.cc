#include "lgreco/budget.h"

#include <algorithm>
#include <string>

#include "lgreco/status.h"

namespace lgreco {

double harm(Budget budget, double error, double norm) {
  const double capped = std::min(error, norm);
  return budget == Budget::norm ? capped : capped * capped;
}

Budget parse_budget(std::string_view name) {
  for (Budget budget : {Budget::norm, Budget::squared}) {
    if (name == name_of(budget)) return budget;
  }
  throw ConfigError("[budget] budget is '" + std::string(name) +
                    "'; it must be 'norm' or 'squared'");
}

std::string_view name_of(Budget budget) { return budget == Budget::norm ? "norm" : "squared"; }

}  // namespace lgreco
