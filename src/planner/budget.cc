#include "lgreco/budget.h"

#include <algorithm>
#include <string>

#include "lgreco/status.h"

namespace lgreco {

double harm(Budget budget, double error, double norm) {
  const double capped = std::min(error, norm);
  switch (budget) {
    case Budget::norm:
      return capped;
    case Budget::squared:
      return capped * capped;
    case Budget::debt: {
      const double share = capped > 0 ? capped / norm : 0;
      const double squared = share * share;
      return capped * capped * (1 + squared + squared * squared);
    }
  }
  throw ConfigError("[budget] unknown budget");
}

Budget parse_budget(std::string_view name) {
  for (Budget budget : {Budget::norm, Budget::squared, Budget::debt}) {
    if (name == name_of(budget)) return budget;
  }
  throw ConfigError("[budget] budget is '" + std::string(name) +
                    "'; it must be 'norm', 'squared' or 'debt'");
}

std::string_view name_of(Budget budget) {
  switch (budget) {
    case Budget::norm:
      return "norm";
    case Budget::squared:
      return "squared";
    case Budget::debt:
      return "debt";
  }
  throw ConfigError("[budget] unknown budget");
}

}  // namespace lgreco
