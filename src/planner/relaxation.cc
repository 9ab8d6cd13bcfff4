#include "src/planner/relaxation.h"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace lgreco {
namespace {

/// From one vertex of a row's lower convex hull to the next.
struct HullStep {
  double error;  // gained
  double slope;  // cost saved per error gained
  std::uint32_t row;
  std::uint32_t position;  // after the step
};

// The relaxation takes steps in this order. Those of one row stay in theirs.
bool goes_first(const HullStep& a, const HullStep& b) {
  return a.slope != b.slope ? a.slope > b.slope : a.row < b.row;
}

double slope_between(const Candidate& from, const Candidate& to) {
  return (from.cost - to.cost) / (to.error - from.error);
}

// Sets `hull` to the positions of the vertices, from the smallest error on; slopes strictly
// descend.
void find_hull(const Row& row, std::vector<std::size_t>& hull) {
  hull.clear();
  for (std::size_t next = 0; next < row.size(); ++next) {
    while (hull.size() >= 2) {
      const Candidate& before = row[hull[hull.size() - 2]];
      const Candidate& last = row[hull.back()];
      if (slope_between(before, last) > slope_between(last, row[next])) break;
      hull.pop_back();
    }
    hull.push_back(next);
  }
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

std::vector<HullStep> steps_of(const Knapsack& knapsack) {
  std::size_t candidates = 0;
  for (const Row& row : knapsack.rows) candidates += row.size();
  std::vector<HullStep> steps;
  steps.reserve(candidates);
  std::vector<std::size_t> hull;
  for (std::size_t i = 0; i < knapsack.rows.size(); ++i) {
    const Row& row = knapsack.rows[i];
    find_hull(row, hull);
    for (std::size_t v = 1; v < hull.size(); ++v) {
      const Candidate& from = row[hull[v - 1]];
      const Candidate& to = row[hull[v]];
      steps.push_back({to.error - from.error, slope_between(from, to),
                       static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(hull[v])});
    }
  }
  return steps;
}

// Moves the first steps whose errors together fit into `room` to the front, in linear time, and
// returns how many there are. The step after them is the first that does not fit.
std::size_t fitting(std::vector<HullStep>& steps, double room) {
  auto begin = steps.begin(), end = steps.end();
  while (begin != end) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, goes_first);
    double rest = room;
    for (auto step = begin; step <= middle; ++step) rest -= step->error;
    if (rest >= 0) {
      room = rest;
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return static_cast<std::size_t>(begin - steps.begin());
}

}  // namespace

Relaxation relax(const Knapsack& knapsack) {
  std::vector<std::size_t> positions(knapsack.rows.size(), 0);
  std::vector<HullStep> steps = steps_of(knapsack);
  const std::size_t taken = fitting(steps, knapsack.budget - select(knapsack, positions).error);
  for (std::size_t s = 0; s < taken; ++s) {
    std::size_t& position = positions[steps[s].row];
    position = std::max<std::size_t>(position, steps[s].position);
  }
  Relaxation relaxation;
  if (taken < steps.size()) relaxation.multiplier = steps[taken].slope;
  relaxation.rounded = select(knapsack, positions);
  relaxation.base = std::move(positions);
  if (relaxation.rounded.error > knapsack.budget) {  // summed in another order, by a rounding
    relaxation.rounded = select(knapsack, std::vector<std::size_t>(knapsack.rows.size(), 0));
  }
  relaxation.lower_bound = std::max(0.0, lagrangian(knapsack, relaxation.multiplier));
  return relaxation;
}

}  // namespace lgreco
