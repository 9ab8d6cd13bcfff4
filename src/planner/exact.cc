#include "src/planner/exact.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "src/planner/core.h"
#include "src/planner/relaxation.h"
#include "src/planner/remaining_bound.h"
#include "src/planner/states.h"

namespace lgreco {
namespace {

/// What sums of this magnitude may be off by when added in another order.
double rounding(std::size_t terms, double magnitude) {
  return 4 * static_cast<double>(terms + 1) * std::numeric_limits<double>::epsilon() * magnitude;
}

class Search {
 public:
  Search(const Knapsack& knapsack, const Relaxation& relaxation, std::size_t max_states)
      : knapsack_(knapsack),
        base_(select(knapsack, relaxation.base)),
        best_(improve(knapsack, relaxation.rounded)),
        lower_bound_(relaxation.lower_bound),
        core_(core_of(knapsack, relaxation, best_.cost - relaxation.lower_bound)),
        unit_(cost_unit(knapsack, core_)),
        tolerance_(rounding(knapsack.rows.size(), knapsack.budget)),
        rest_(core_, tolerance_),
        states_left_(max_states) {}

  ExactResult run() {
    lists_.assign(1, States{{0, 0, 0, 0}});
    while (lists_.size() <= core_.size() && !lists_.back().empty() && within_limit()) {
      extend();
      look_for_better();
    }
    raise_lower_bound();
    return {std::move(best_), lower_bound_};
  }

 private:
  double room() const { return knapsack_.budget - base_.error; }

  /// What a selection must cost at most, relative to the base, to be better than the best.
  double limit() const {
    const double resolution = unit_ > 0 ? unit_ / 2 : rounding(knapsack_.rows.size(), base_.cost);
    return best_.cost - base_.cost - resolution;
  }

  bool within_limit() {
    const std::size_t work = lists_.back().size() * core_[lists_.size() - 1].options.size();
    if (work > states_left_) return false;
    states_left_ -= work;
    return true;
  }

  void extend() {
    const States& from = lists_.back();
    const std::size_t decided = lists_.size() - 1;
    rest_.decide(decided);
    const double limit = this->limit();
    const double distance = best_.cost - lower_bound_;
    runs_.clear();
    ends_.clear();
    const auto& options = core_[decided].options;
    for (std::uint32_t o = 0; o < options.size(); ++o) {
      const Option& option = options[o];
      if (option.reduced_cost > distance) continue;
      const double room = this->room() - option.error;
      RemainingBound::Sweep rest(rest_);
      for (std::uint32_t s = 0; s < from.size(); ++s) {
        const double cost = from[s].cost + option.cost;
        if (cost + rest.at(room - from[s].error) > limit) continue;
        runs_.push_back({from[s].error + option.error, cost, s, o});
      }
      ends_.push_back(runs_.size());
    }
    lists_.push_back(undominated(runs_, ends_));
  }

  /// The cheapest states are those with the largest errors that fit.
  void look_for_better() {
    const States& states = lists_.back();
    const auto fits = [&](const State& state) { return state.error <= room() + tolerance_; };
    auto end = std::partition_point(states.begin(), states.end(), fits);
    while (end != states.begin() && (end - 1)->cost <= limit()) {
      --end;
      Selection found = trace(static_cast<std::size_t>(end - states.begin()));
      if (found.error > knapsack_.budget) continue;  // by a rounding
      if (found.cost < best_.cost) best_ = std::move(found);
      return;
    }
  }

  Selection trace(std::size_t state) const {
    auto positions = base_.positions;
    for (std::size_t i = lists_.size() - 1; i > 0; --i) {
      const State& last = lists_[i][state];
      positions[core_[i - 1].row] = core_[i - 1].options[last.option].position;
      state = last.parent;
    }
    return select(knapsack_, std::move(positions));
  }

  /// No selection is cheaper than both the best and what the states left in the list can become.
  void raise_lower_bound() {
    double least = best_.cost;
    RemainingBound::Sweep rest(rest_);
    for (const State& state : lists_.back()) {
      const double bound = state.cost + rest.at(room() - state.error);
      if (bound <= limit()) least = std::min(least, base_.cost + bound);
    }
    if (least < best_.cost && unit_ > 0) {
      least = best_.cost - unit_ * std::floor((best_.cost - least) / unit_ + 0.01);
    }
    lower_bound_ = std::max(lower_bound_, least);
  }

  const Knapsack& knapsack_;
  const Selection base_;
  Selection best_;
  double lower_bound_;
  const std::vector<CoreRow> core_;
  const double unit_;
  const double tolerance_;
  RemainingBound rest_;
  std::size_t states_left_;
  std::vector<States> lists_;  // [i]: with i rows of the core decided
  States runs_;
  std::vector<std::size_t> ends_;
};

}  // namespace

ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states) {
  return Search(knapsack, relax(knapsack), max_states).run();
}

}  // namespace lgreco
