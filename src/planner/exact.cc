#include "src/planner/exact.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "src/planner/relaxation.h"

namespace lgreco {
namespace {

// Around the relaxation's multiplier: partial sums that have spent much more or much less than their
// share of the budget are bounded best by another price of error than the whole is.
constexpr double kPriceFactors[] = {1,      63. / 64, 65. / 64, 15. / 16, 17. / 16,
                                    3. / 4, 5. / 4,   1. / 2,   2,        4};

/// Choices for the first rows, by their sums.
struct State {
  double error;
  double cost;
  std::uint32_t parent;    // in the list of the row before
  std::uint32_t position;  // chosen in this row
};

/// The Lagrangian bound at one price of error, for whatever is chosen in the first rows.
class PriceBound {
 public:
  PriceBound(const Knapsack& knapsack, double price)
      : price_(price), spent_(price * knapsack.budget), least_after_(knapsack.rows.size() + 1, 0.0) {
    // All terms are >= 0 and each is summed over at most all rows.
    tolerance_ = 1 + 4 * static_cast<double>(knapsack.rows.size() + 4) *
                         std::numeric_limits<double>::epsilon();
    for (std::size_t i = knapsack.rows.size(); i-- > 0;) {
      double least = std::numeric_limits<double>::infinity();
      for (const Candidate& candidate : knapsack.rows[i]) {
        least = std::min(least, candidate.cost + price * candidate.error);
      }
      least_after_[i] = least_after_[i + 1] + least;
    }
  }

  void set_limit(double cost) { most_ = (cost + spent_) * tolerance_; }

  /// Whether some selection within the limit and the budget may begin with these sums.
  bool allows(double cost, double error, std::size_t next_row) const {
    return cost + price_ * error + least_after_[next_row] <= most_;
  }

 private:
  double price_;
  double spent_;
  double tolerance_;
  double most_ = 0;
  std::vector<double> least_after_;  // of rows i, i+1, ...
};

/// `states` ascend in error and descend in cost; `state` has at least the last one's error.
void append_undominated(std::vector<State>& states, const State& state) {
  if (!states.empty()) {
    if (state.cost >= states.back().cost) return;
    if (state.error == states.back().error) states.pop_back();
  }
  states.push_back(state);
}

std::vector<State> merge_undominated(const std::vector<State>& a, const std::vector<State>& b) {
  std::vector<State> merged;
  merged.reserve(a.size() + b.size());
  auto left = a.begin();
  auto right = b.begin();
  while (left != a.end() || right != b.end()) {
    const bool take_right =
        left == a.end() || (right != b.end() && (right->error < left->error ||
                                                 (right->error == left->error &&
                                                  right->cost < left->cost)));
    append_undominated(merged, take_right ? *right++ : *left++);
  }
  return merged;
}

class Search {
 public:
  Search(const Knapsack& knapsack, double multiplier, std::size_t max_states)
      : knapsack_(knapsack), states_left_(max_states) {
    for (double factor : kPriceFactors) bounds_.emplace_back(knapsack, multiplier * factor);
    least_error_after_.assign(knapsack.rows.size() + 1, 0.0);
    for (std::size_t i = knapsack.rows.size(); i-- > 0;) {
      least_error_after_[i] = least_error_after_[i + 1] + knapsack.rows[i].front().error;
    }
  }

  /// The cheapest selection within the budget that costs at most `limit`, if there is one; of
  /// several, one of least error. Nothing, too, when the states ran out: see exhausted().
  std::optional<Selection> within(double limit) {
    for (PriceBound& bound : bounds_) bound.set_limit(limit);
    lists_.assign(1, {State{0, 0, 0, 0}});
    for (std::size_t i = 0; i < knapsack_.rows.size(); ++i) {
      lists_.push_back(extend(i));
      if (exhausted_ || lists_.back().empty()) return std::nullopt;
    }
    const auto& last = lists_.back();
    for (std::size_t s = last.size(); s-- > 0;) {
      if (last[s].error > knapsack_.budget) continue;
      if (last[s].cost > limit) return std::nullopt;
      return trace(s);
    }
    return std::nullopt;
  }

  bool exhausted() const { return exhausted_; }

 private:
  std::vector<State> extend(std::size_t i) {
    std::vector<State> states;
    for (std::size_t p = 0; p < knapsack_.rows[i].size(); ++p) {
      std::vector<State> chosen = choose(i, p);
      if (exhausted_) return {};
      if (!chosen.empty()) {
        states = states.empty() ? std::move(chosen) : merge_undominated(states, chosen);
      }
    }
    return states;
  }

  std::vector<State> choose(std::size_t i, std::size_t p) {
    const Candidate& candidate = knapsack_.rows[i][p];
    // A little more than there is: these sums are rounded in another order than the final one.
    const double room = knapsack_.budget * (1 + 1e-9) - least_error_after_[i + 1];
    const std::vector<State>& parents = lists_[i];
    std::vector<State> states;
    for (std::size_t s = 0; s < parents.size(); ++s) {
      const State state{parents[s].error + candidate.error, parents[s].cost + candidate.cost,
                        static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(p)};
      if (state.error > room) break;
      if (allowed(state, i + 1)) append_undominated(states, state);
    }
    exhausted_ = states.size() > states_left_;
    states_left_ -= std::min(states_left_, states.size());
    return states;
  }

  bool allowed(const State& state, std::size_t next_row) const {
    return std::all_of(bounds_.begin(), bounds_.end(), [&](const PriceBound& bound) {
      return bound.allows(state.cost, state.error, next_row);
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
  std::vector<PriceBound> bounds_;
  std::vector<double> least_error_after_;  // of rows i, i+1, ...
  std::vector<std::vector<State>> lists_;
};

}  // namespace

ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states) {
  const Relaxation relaxation = relax(knapsack);
  ExactResult result{improve(knapsack, relaxation.rounded), relaxation.lower_bound};
  const double gap = result.selection.cost - relaxation.lower_bound;
  Search search(knapsack, relaxation.multiplier, max_states);
  for (double part = 1.0 / 64; gap > 0; part *= 2) {
    const double limit =
        part < 1 ? relaxation.lower_bound + part * gap : result.selection.cost;
    auto found = search.within(limit);
    if (search.exhausted()) return result;
    if (found) result.selection = std::move(*found);
    if (found || part >= 1) break;
    result.lower_bound = limit;
  }
  result.lower_bound = result.selection.cost;
  return result;
}

}  // namespace lgreco
