#include "src/planner/relaxation.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lgreco {
namespace {

/// From one vertex of a row's lower convex hull to the next.
struct HullStep {
  std::size_t row;
  std::size_t position;  // after the step
  double error;          // gained
  double slope;          // cost saved per error gained
};

double slope_between(const Candidate& from, const Candidate& to) {
  return (from.cost - to.cost) / (to.error - from.error);
}

// Positions of the vertices, from the smallest error on; slopes strictly descend.
std::vector<std::size_t> hull_of(const Row& row) {
  std::vector<std::size_t> hull;
  for (std::size_t next = 0; next < row.size(); ++next) {
    while (hull.size() >= 2) {
      const Candidate& before = row[hull[hull.size() - 2]];
      const Candidate& last = row[hull.back()];
      if (slope_between(before, last) > slope_between(last, row[next])) break;
      hull.pop_back();
    }
    hull.push_back(next);
  }
  return hull;
}

double lagrangian(const Knapsack& knapsack, double multiplier) {
  double bound = 0;
  double magnitude = multiplier * knapsack.budget;
  for (const Row& row : knapsack.rows) {
    double least = std::numeric_limits<double>::infinity();
    for (const Candidate& candidate : row) {
      least = std::min(least, candidate.cost + multiplier * candidate.error);
    }
    bound += least;
    magnitude += least;
  }
  // What the sums may have rounded, so that the bound stays one.
  const double slack = 4 * static_cast<double>(knapsack.rows.size() + 1) *
                       std::numeric_limits<double>::epsilon() * magnitude;
  return bound - multiplier * knapsack.budget - slack;
}

}  // namespace

Relaxation relax(const Knapsack& knapsack) {
  std::vector<HullStep> steps;
  for (std::size_t i = 0; i < knapsack.rows.size(); ++i) {
    const Row& row = knapsack.rows[i];
    const auto hull = hull_of(row);
    for (std::size_t v = 1; v < hull.size(); ++v) {
      const Candidate& from = row[hull[v - 1]];
      const Candidate& to = row[hull[v]];
      steps.push_back({i, hull[v], to.error - from.error, slope_between(from, to)});
    }
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const HullStep& a, const HullStep& b) { return a.slope > b.slope; });

  Relaxation relaxation;
  std::vector<std::size_t> positions(knapsack.rows.size(), 0);
  double error = select(knapsack, positions).error;
  for (const HullStep& step : steps) {
    if (error + step.error > knapsack.budget) {
      relaxation.multiplier = step.slope;
      break;
    }
    positions[step.row] = step.position;
    error += step.error;
  }
  relaxation.rounded = select(knapsack, positions);
  relaxation.base = std::move(positions);
  if (relaxation.rounded.error > knapsack.budget) {  // summed in another order, by a rounding
    relaxation.rounded = select(knapsack, std::vector<std::size_t>(knapsack.rows.size(), 0));
  }
  relaxation.lower_bound = std::max(0.0, lagrangian(knapsack, relaxation.multiplier));
  return relaxation;
}

}  // namespace lgreco
