// The cleaned problem that both solvers see: rows without hopeless candidates.
#pragma once

#include <cstddef>
#include <vector>

namespace lgreco {

struct Candidate {
  double cost;
  double error;
  std::size_t index;  // in the caller's row
};

/// Candidates by ascending error; no other candidate is at most as costly with at most the error.
/// So costs strictly descend. Never empty.
using Row = std::vector<Candidate>;

struct Knapsack {
  std::vector<Row> rows;
  double budget = 0;
};

/// A position in each row, and its sums in row order.
struct Selection {
  std::vector<std::size_t> positions;
  double cost = 0;
  double error = 0;
};

inline Selection select(const Knapsack& knapsack, std::vector<std::size_t> positions) {
  Selection selection{std::move(positions), 0, 0};
  for (std::size_t i = 0; i < knapsack.rows.size(); ++i) {
    const Candidate& candidate = knapsack.rows[i][selection.positions[i]];
    selection.cost += candidate.cost;
    selection.error += candidate.error;
  }
  return selection;
}

/// Spend what is left of the budget: again and again the change of one row that saves most.
Selection improve(const Knapsack& knapsack, Selection selection);

}  // namespace lgreco
