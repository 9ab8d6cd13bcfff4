#include "src/planner/exact.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "src/planner/relaxation.h"

namespace lgreco {
namespace {

/// Choices for the first rows, by their sums.
struct State {
  double error;
  double cost;
  double reduced_cost;
  std::uint32_t parent;    // in the list of the row before
  std::uint32_t position;  // chosen in this row
};

class Search {
 public:
  Search(const Knapsack& knapsack, const Relaxation& relaxation, std::size_t max_states)
      : knapsack_(knapsack), states_left_(max_states) {
    const std::size_t rows = knapsack.rows.size();
    least_error_after_.assign(rows + 1, 0.0);
    for (std::size_t i = rows; i-- > 0;) {
      least_error_after_[i] = least_error_after_[i + 1] + knapsack.rows[i].front().error;
    }
    for (const Row& row : knapsack.rows) {
      std::vector<double>& reduced = reduced_costs_.emplace_back();
      for (const Candidate& candidate : row) {
        reduced.push_back(candidate.cost + relaxation.multiplier * candidate.error);
      }
      const double least = *std::min_element(reduced.begin(), reduced.end());
      for (double& value : reduced) value -= least;
    }
  }

  /// The cheapest selection among those whose reduced cost is at most `distance`, if there is one
  /// within the budget. Sets exhausted() when the states ran out.
  std::optional<Selection> within(double distance) {
    lists_.assign(1, {State{0, 0, 0, 0, 0}});
    for (std::size_t i = 0; i < knapsack_.rows.size(); ++i) {
      lists_.push_back(extend(i, distance));
      if (exhausted_ || lists_.back().empty()) return std::nullopt;
    }
    // Ascending error means descending cost.
    const auto& last = lists_.back();
    for (std::size_t s = last.size(); s-- > 0;) {
      if (last[s].error <= knapsack_.budget) return trace(s);
    }
    return std::nullopt;
  }

  bool exhausted() const { return exhausted_; }

 private:
  std::vector<State> extend(std::size_t i, double distance) {
    const Row& row = knapsack_.rows[i];
    const double room = knapsack_.budget * (1 + 1e-9) - least_error_after_[i + 1];
    std::vector<State> states;
    for (std::size_t p = 0; p < row.size(); ++p) {
      if (reduced_costs_[i][p] > distance) continue;
      for (std::size_t s = 0; s < lists_.back().size(); ++s) {
        const State& from = lists_.back()[s];
        const State state{from.error + row[p].error, from.cost + row[p].cost,
                          from.reduced_cost + reduced_costs_[i][p], static_cast<std::uint32_t>(s),
                          static_cast<std::uint32_t>(p)};
        if (state.reduced_cost <= distance && state.error <= room) states.push_back(state);
      }
    }
    if (states.size() > states_left_) {
      exhausted_ = true;
      return {};
    }
    states_left_ -= states.size();
    keep_undominated(states);
    return states;
  }

  static void keep_undominated(std::vector<State>& states) {
    std::sort(states.begin(), states.end(), [](const State& a, const State& b) {
      if (a.error != b.error) return a.error < b.error;
      if (a.cost != b.cost) return a.cost < b.cost;
      return a.position != b.position ? a.position < b.position : a.parent < b.parent;
    });
    double least = std::numeric_limits<double>::infinity();
    std::erase_if(states, [&](const State& state) {
      if (state.cost >= least) return true;
      least = state.cost;
      return false;
    });
  }

  Selection trace(std::size_t state) const {
    std::vector<std::size_t> positions(knapsack_.rows.size());
    for (std::size_t i = knapsack_.rows.size(); i-- > 0;) {
      positions[i] = lists_[i + 1][state].position;
      state = lists_[i + 1][state].parent;
    }
    return select(knapsack_, std::move(positions));
  }

  const Knapsack& knapsack_;
  std::size_t states_left_;
  bool exhausted_ = false;
  std::vector<double> least_error_after_;           // of rows i, i+1, ...
  std::vector<std::vector<double>> reduced_costs_;  // >= 0
  std::vector<std::vector<State>> lists_;
};

}  // namespace

ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states) {
  const Relaxation relaxation = relax(knapsack);
  ExactResult result{improve(knapsack, relaxation.rounded), relaxation.lower_bound};
  Search search(knapsack, relaxation, max_states);
  for (double part = 1.0 / 64;; part *= 2) {
    const double gap = result.selection.cost - relaxation.lower_bound;
    const double distance = std::min(1.0, part) * gap;
    const auto found = search.within(distance);
    if (search.exhausted()) return result;
    if (found && found->cost < result.selection.cost) result.selection = *found;
    // A cheaper selection would have a smaller reduced cost than this and would have been found.
    if (result.selection.cost - relaxation.lower_bound <= distance || part >= 1) {
      result.lower_bound = result.selection.cost;
      return result;
    }
  }
}

}  // namespace lgreco
