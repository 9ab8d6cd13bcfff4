#include "lgreco/budget.h"

#include <limits>
#include <string>

#include "lgreco/status.h"

namespace lgreco {
namespace {

double debt(double error, double norm) {
  if (norm == 0) return 0;
  const double share = error / norm;
  if (share >= 1) return std::numeric_limits<double>::infinity();
  const double kept = error / (1 - share * share);
  return kept * kept;
}

}  // namespace

double harm(Budget budget, double error, double norm) {
  switch (budget) {
    case Budget::norm:
      return error;
    case Budget::squared:
      return error * error;
    case Budget::debt:
      return debt(error, norm);
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
