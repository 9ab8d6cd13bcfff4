#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "lgreco/planner.h"
#include "lgreco/status.h"
#include "src/planner/dp.h"
#include "src/planner/exact.h"
#include "src/planner/relaxation.h"

namespace lgreco {
namespace {

using Reference = std::optional<std::span<const std::size_t>>;

[[noreturn]] void refuse(std::size_t row, const std::string& why) {
  throw ConfigError("[planner] layer " + std::to_string(row) + ": " + why);
}

void check_row(const PlannerRow& row, std::size_t i) {
  if (row.costs.empty()) refuse(i, "there is no candidate");
  if (row.costs.size() != row.errors.size()) {
    refuse(i, std::to_string(row.costs.size()) + " costs but " + std::to_string(row.errors.size()) +
                  " errors");
  }
  for (double cost : row.costs) {
    if (!std::isfinite(cost) || cost < 0) refuse(i, "a cost is negative or not finite");
  }
  for (double error : row.errors) {
    if (error < 0) refuse(i, "an error is negative");
  }
}

void check_input(std::span<const PlannerRow> rows, double budget, const Reference& reference,
                 const SolveOptions& options) {
  for (std::size_t i = 0; i < rows.size(); ++i) check_row(rows[i], i);
  if (std::isnan(budget)) throw ConfigError("[planner] the budget is NaN");
  if (options.cells == 0) throw ConfigError("[planner] dp needs at least one cell");
  if (!reference) return;
  if (reference->size() != rows.size()) {
    throw ConfigError("[planner] the reference has " + std::to_string(reference->size()) +
                      " entries for " + std::to_string(rows.size()) + " layers");
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if ((*reference)[i] >= rows[i].costs.size()) refuse(i, "the reference is out of range");
  }
}

// Undominated candidates with a finite error; empty when there is none.
Row clean(const PlannerRow& row) {
  Row candidates;
  candidates.reserve(row.costs.size());
  for (std::size_t c = 0; c < row.costs.size(); ++c) {
    if (std::isfinite(row.errors[c])) candidates.push_back({row.costs[c], row.errors[c], c});
  }
  const auto precedes = [](const Candidate& a, const Candidate& b) {
    if (a.error != b.error) return a.error < b.error;
    return a.cost != b.cost ? a.cost < b.cost : a.index < b.index;
  };
  // Levels mostly come by ascending size, which is descending error.
  if (candidates.size() > 1 && precedes(candidates.back(), candidates.front())) {
    std::reverse(candidates.begin(), candidates.end());
  }
  if (!std::is_sorted(candidates.begin(), candidates.end(), precedes)) {
    std::sort(candidates.begin(), candidates.end(), precedes);
  }
  double least = std::numeric_limits<double>::infinity();
  std::erase_if(candidates, [&](const Candidate& candidate) {
    if (candidate.cost >= least) return true;
    least = candidate.cost;
    return false;
  });
  return candidates;
}

std::size_t cheapest(const PlannerRow& row) {
  return static_cast<std::size_t>(std::min_element(row.costs.begin(), row.costs.end()) -
                                  row.costs.begin());
}

/// Cost over all rows; error and feasibility over those that are not in solution.fallback_layers.
void add_up(std::span<const PlannerRow> rows, double budget, Solution& solution) {
  solution.cost = 0;
  solution.error = 0;
  auto fallback = solution.fallback_layers.begin();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    solution.cost += rows[i].costs[solution.choice[i]];
    if (fallback != solution.fallback_layers.end() && *fallback == i) {
      ++fallback;
    } else {
      solution.error += rows[i].errors[solution.choice[i]];
    }
  }
  solution.feasible = solution.error <= budget;
}

}  // namespace

Solver parse_solver(std::string_view name) {
  if (name == "exact") return Solver::exact;
  if (name == "dp") return Solver::dp;
  throw ConfigError("[planner] solver is '" + std::string(name) + "'; it must be 'exact' or 'dp'");
}

Solution solve(std::span<const PlannerRow> rows, double budget, Reference reference,
               const SolveOptions& options) {
  check_input(rows, budget, reference, options);
  Solution solution;
  solution.choice.resize(rows.size());
  Knapsack knapsack{.rows = {}, .budget = budget};
  std::vector<std::size_t> row_of;  // of the knapsack's rows
  double fixed_cost = 0;
  double least_error = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Row row = clean(rows[i]);
    if (row.empty()) {
      solution.choice[i] = reference ? (*reference)[i] : cheapest(rows[i]);
      solution.fallback_layers.push_back(i);
      fixed_cost += rows[i].costs[solution.choice[i]];
      continue;
    }
    solution.choice[i] = row.front().index;  // the smallest error, until something better is known
    least_error += row.front().error;
    knapsack.rows.push_back(std::move(row));
    row_of.push_back(i);
  }
  Solution given = solution;
  if (reference) {
    given.choice.assign(reference->begin(), reference->end());
    add_up(rows, budget, given);
  }
  if (!(least_error <= budget)) {
    if (reference) solution.choice = given.choice;
    add_up(rows, budget, solution);
    solution.lower_bound = solution.cost;
    return solution;
  }
  const ExactResult best =
      options.solver == Solver::exact
          ? solve_exact(knapsack, options.max_states)
          : ExactResult{solve_dp(knapsack, options.cells), relax(knapsack).lower_bound};
  for (std::size_t k = 0; k < row_of.size(); ++k) {
    solution.choice[row_of[k]] = knapsack.rows[k][best.selection.positions[k]].index;
  }
  add_up(rows, budget, solution);
  if (reference && given.feasible && given.cost < solution.cost) solution = given;
  const bool proven = best.lower_bound == best.selection.cost;
  solution.lower_bound =
      proven ? solution.cost : std::min(best.lower_bound + fixed_cost, solution.cost);
  return solution;
}

}  // namespace lgreco
