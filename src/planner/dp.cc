#include "src/planner/dp.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace lgreco {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Zero errors take no cell; what does not fit takes more than there are.
std::size_t cells_of(double error, double budget, std::size_t cells) {
  if (error == 0) return 0;
  const double exact = error / budget * static_cast<double>(cells);
  if (!(exact <= static_cast<double>(cells))) return cells + 1;
  return std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(exact)));
}

}  // namespace

Selection solve_dp(const Knapsack& knapsack, std::size_t cells) {
  const std::size_t width = cells + 1;
  // least[c]: cost of the rows so far with at most c cells.
  std::vector<double> least(width, 0.0), next(width);
  std::vector<std::uint32_t> taken(knapsack.rows.size() * width);
  for (std::size_t i = 0; i < knapsack.rows.size(); ++i) {
    std::fill(next.begin(), next.end(), kInfinity);
    const Row& row = knapsack.rows[i];
    std::uint32_t* position_at = taken.data() + i * width;
    for (std::size_t position = 0; position < row.size(); ++position) {
      const std::size_t size = cells_of(row[position].error, knapsack.budget, cells);
      for (std::size_t c = size; c < width; ++c) {
        const double cost = least[c - size] + row[position].cost;
        if (cost < next[c]) {
          next[c] = cost;
          position_at[c] = static_cast<std::uint32_t>(position);
        }
      }
    }
    least.swap(next);
  }
  std::vector<std::size_t> positions(knapsack.rows.size(), 0);
  if (least[cells] < kInfinity) {
    std::size_t left = cells;
    for (std::size_t i = knapsack.rows.size(); i-- > 0;) {
      positions[i] = taken[i * width + left];
      left -= cells_of(knapsack.rows[i][positions[i]].error, knapsack.budget, cells);
    }
  }
  Selection selection = select(knapsack, std::move(positions));
  if (selection.error > knapsack.budget) {  // by a rounding of the sum
    selection = select(knapsack, std::vector<std::size_t>(knapsack.rows.size(), 0));
  }
  return improve(knapsack, std::move(selection));
}

}  // namespace lgreco
