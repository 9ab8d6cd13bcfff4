// The planner: fewest bytes within an error budget, one candidate per layer.
//
// A multiple-choice knapsack on plain numbers. It knows no tensor, method or network, is pure and
// deterministic (equal tables give equal plans on every rank), and thread-safe. Use `solve`.
// Method: L-GreCo (Alimohammadi et al., MLSys 2024), section 4.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace lgreco {

/// The candidates of one layer: parallel arrays, in any order.
struct PlannerRow {
  std::vector<double> costs;   // bytes (or seconds), finite and >= 0
  std::vector<double> errors;  // >= 0; a candidate whose error is not finite is never chosen
};

enum class Solver {
  exact,  // proven optimum, or the best found with a proven bound
  dp,     // the paper's dynamic programme over a discretised error axis
};

/// "exact" or "dp". Throws ConfigError on anything else.
Solver parse_solver(std::string_view name);

struct SolveOptions {
  Solver solver = Solver::exact;
  /// dp: cells of the error axis. More is closer to the optimum and slower, both linearly.
  std::size_t cells = 10'000;
  /// exact: partial plans to examine (one that is kept counts as eight) before it stops with the
  /// best found and its bound. Using up the default takes 20 to 100 ms. A limit counted and not
  /// timed, because every rank must stop at the same plan.
  std::size_t max_states = 6'000'000;
};

struct Solution {
  /// One candidate per layer.
  std::vector<std::size_t> choice;
  double cost = 0;
  double error = 0;
  /// No choice within the budget costs less than this, but for what the sums round. Equal to `cost`
  /// when proven optimal; the dp solver gives the Lagrangian bound.
  double lower_bound = 0;
  /// True when `error` <= budget. Without a feasible choice, `choice` is the reference if one was
  /// given, else each layer's smallest error.
  bool feasible = true;
  /// Layers without any finite error: they keep their reference (or cheapest) candidate, do not
  /// count in `error`, and are listed here.
  std::vector<std::size_t> fallback_layers;
};

/// Choose one candidate per row: least total cost with total error <= budget, both checked with the
/// undiscretised numbers. When `reference` (one index per row) is within the budget, the result
/// never costs more than the reference. No rows: an empty, feasible solution.
/// Throws ConfigError on a row without candidates, arrays of different length, a cost that is
/// negative or not finite, a negative error, a reference out of range, a budget that is NaN.
Solution solve(std::span<const PlannerRow> rows, double budget,
               std::optional<std::span<const std::size_t>> reference, const SolveOptions& options);

}  // namespace lgreco
