#include "src/planner/core.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace lgreco {
namespace {

std::vector<Option> options_of(const Row& row, std::size_t base, double multiplier,
                               double distance) {
  std::vector<Option> options;
  for (std::size_t p = 0; p < row.size(); ++p) {
    const double error = row[p].error - row[base].error;
    const double cost = row[p].cost - row[base].cost;
    const double reduced = std::max(0.0, cost + multiplier * error);
    if (p == base || reduced <= distance) {
      options.push_back({error, cost, reduced, static_cast<std::uint32_t>(p)});
    }
  }
  return options;
}

// Distance from the multiplier, of the alternative that is nearest.
double detour(const CoreRow& row) {
  double least = std::numeric_limits<double>::infinity();
  for (const Option& option : row.options) {
    if (option.error == 0) continue;  // the relaxation's own choice
    least = std::min(least, option.reduced_cost / std::abs(option.error));
  }
  return least;
}

}  // namespace

std::vector<CoreRow> core_of(const Knapsack& knapsack, const Relaxation& relaxation,
                             double distance) {
  struct Ranked {
    double detour;
    CoreRow row;
  };
  std::vector<Ranked> ranked;
  for (std::size_t i = 0; i < knapsack.rows.size(); ++i) {
    CoreRow row{i,
                options_of(knapsack.rows[i], relaxation.base[i], relaxation.multiplier, distance)};
    if (row.options.size() < 2) continue;
    const double key = detour(row);
    ranked.push_back({key, std::move(row)});
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const Ranked& a, const Ranked& b) { return a.detour < b.detour; });
  std::vector<CoreRow> core;
  core.reserve(ranked.size());
  for (Ranked& entry : ranked) core.push_back(std::move(entry.row));
  return core;
}

double cost_unit(const Knapsack& knapsack, const std::vector<CoreRow>& core, double least) {
  std::int64_t unit = 0;
  for (const CoreRow& core_row : core) {
    for (const Option& option : core_row.options) {
      const double cost = knapsack.rows[core_row.row][option.position].cost;
      if (cost != std::floor(cost) || cost >= 1LL << 53) return 0;
      unit = std::gcd(unit, static_cast<std::int64_t>(option.cost));
    }
  }
  return static_cast<double>(unit) > least ? static_cast<double>(unit) : 0;
}

}  // namespace lgreco
