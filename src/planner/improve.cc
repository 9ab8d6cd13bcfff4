#include <algorithm>

#include "src/planner/knapsack.h"

namespace lgreco {
namespace {

struct Change {
  std::size_t row;
  std::size_t position;
  double saving;
};

// The cheapest candidate that fits, of every row that has a cheaper one; the best saving first.
std::vector<Change> savings(const Knapsack& knapsack, const Selection& selection) {
  std::vector<Change> changes;
  for (std::size_t i = 0; i < knapsack.rows.size(); ++i) {
    const Row& row = knapsack.rows[i];
    const auto current = row.begin() + static_cast<std::ptrdiff_t>(selection.positions[i]);
    const double room = knapsack.budget - selection.error + current->error;
    const auto end = std::partition_point(current + 1, row.end(),
                                          [room](const Candidate& c) { return c.error <= room; });
    const auto last = end - 1;
    if (last == current) continue;
    changes.push_back(
        {i, static_cast<std::size_t>(last - row.begin()), current->cost - last->cost});
  }
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change& a, const Change& b) { return a.saving > b.saving; });
  return changes;
}

// False when there is no change, or none whose sum fits.
bool improve_once(const Knapsack& knapsack, Selection& selection) {
  for (const Change& change : savings(knapsack, selection)) {
    auto positions = selection.positions;
    positions[change.row] = change.position;
    Selection changed = select(knapsack, std::move(positions));
    if (changed.error > knapsack.budget) continue;  // by a rounding
    selection = std::move(changed);
    return true;
  }
  return false;
}

}  // namespace

Selection improve(const Knapsack& knapsack, Selection selection) {
  while (improve_once(knapsack, selection)) {
  }
  return selection;
}

}  // namespace lgreco
