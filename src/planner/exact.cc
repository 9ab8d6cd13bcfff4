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

/// What a sum of this magnitude may be off by when added up in another order.
double rounding(std::size_t terms, double magnitude) {
  return 4 * static_cast<double>(terms + 1) * std::numeric_limits<double>::epsilon() * magnitude;
}

/// States that go on when the search was stopped.
constexpr std::size_t kBeamWidth = 64;

/// Looks for selections that cost at most `guess` and less than the best known.
class Search {
 public:
  Search(const Knapsack& knapsack, const Relaxation& relaxation, double guess)
      : knapsack_(knapsack),
        base_(select(knapsack, relaxation.base)),
        guess_(guess),
        core_(core_of(knapsack, relaxation, guess - relaxation.lower_bound)),
        slack_(rounding(knapsack.rows.size(), base_.cost)),
        unit_(cost_unit(knapsack, core_, 4 * slack_)),
        tolerance_(rounding(knapsack.rows.size(), knapsack.budget)),
        rest_(core_, tolerance_) {}

  /// Improves `known` and takes what it examines from `states_left`. False when that ran out.
  bool run(ExactResult& known, std::size_t& states_left) {
    lists_.assign(1, States{{0, 0, 0, 0}});
    while (lists_.size() <= core_.size() && !lists_.back().empty()) {
      const std::size_t work = lists_.back().size() * core_[lists_.size() - 1].options.size();
      if (work > states_left) {
        known.lower_bound = std::max(known.lower_bound, lower_bound(known.selection.cost));
        look_along_the_best(known.selection);
        return false;
      }
      states_left -= work;
      decide_next(known.selection);
    }
    known.lower_bound = std::max(known.lower_bound, lower_bound(known.selection.cost));
    return true;
  }

 private:
  double room() const { return knapsack_.budget - base_.error; }

  /// What a selection may cost at most, relative to the base, to be looked for.
  double limit(double best_cost) const {
    const double best = best_cost - base_.cost, guess = guess_ - base_.cost;
    if (unit_ == 0) return std::min(best - slack_, guess);
    const double below_best = std::ceil((best - slack_) / unit_) - 1;
    return unit_ * std::min(below_best, std::floor((guess + slack_) / unit_)) + slack_;
  }

  void decide_next(Selection& best) {
    extend(best.cost);
    look_for_better(best);
  }

  /// Goes on with only the most promising states, so that the best selection is a good one.
  void look_along_the_best(Selection& best) {
    guess_ = std::numeric_limits<double>::infinity();
    while (lists_.size() <= core_.size() && !lists_.back().empty()) {
      keep_most_promising(kBeamWidth);
      decide_next(best);
    }
  }

  void keep_most_promising(std::size_t count) {
    States& states = lists_.back();
    if (states.size() <= count) return;
    std::vector<std::pair<double, std::size_t>> bounds;
    RemainingBound::Sweep rest(rest_);
    for (const State& state : states) {
      bounds.emplace_back(state.cost + rest.at(room() - state.error), bounds.size());
    }
    std::nth_element(bounds.begin(), bounds.begin() + static_cast<std::ptrdiff_t>(count),
                     bounds.end());
    bounds.resize(count);
    std::sort(bounds.begin(), bounds.end(),
              [](const auto& a, const auto& b) { return a.second < b.second; });
    States kept;
    for (const auto& [bound, index] : bounds) kept.push_back(states[index]);
    states.swap(kept);
  }

  /// Decides one more row.
  void extend(double best_cost) {
    const States& from = lists_.back();
    const std::size_t decided = lists_.size() - 1;
    rest_.decide(decided);
    const double limit = this->limit(best_cost);
    runs_.clear();
    ends_.clear();
    const auto& options = core_[decided].options;
    for (std::uint32_t o = 0; o < options.size(); ++o) {
      const double room = this->room() - options[o].error;
      RemainingBound::Sweep rest(rest_);
      for (std::uint32_t s = 0; s < from.size(); ++s) {
        const double cost = from[s].cost + options[o].cost;
        if (cost + rest.at(room - from[s].error) > limit) continue;
        runs_.push_back({from[s].error + options[o].error, cost, s, o});
      }
      ends_.push_back(runs_.size());
    }
    lists_.push_back(undominated(runs_, ends_));
  }

  /// The cheapest states are those with the largest errors that fit.
  void look_for_better(Selection& best) const {
    const States& states = lists_.back();
    const auto fits = [&](const State& state) { return state.error <= room() + tolerance_; };
    auto end = std::partition_point(states.begin(), states.end(), fits);
    while (end != states.begin() && (--end)->cost < best.cost - base_.cost) {
      Selection found = trace(static_cast<std::size_t>(end - states.begin()));
      if (found.error > knapsack_.budget) continue;  // by a rounding
      if (found.cost < best.cost) best = std::move(found);
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

  /// What is neither the best nor costs more than the guess can still come out of the list.
  double lower_bound(double best_cost) const {
    double least = std::numeric_limits<double>::infinity();
    RemainingBound::Sweep rest(rest_);
    for (const State& state : lists_.back()) {
      least = std::min(least, state.cost + rest.at(room() - state.error));
    }
    if (unit_ > 0) least = unit_ * std::ceil((least - slack_) / unit_);
    return std::min({best_cost, guess_, base_.cost + least});
  }

  const Knapsack& knapsack_;
  const Selection base_;
  double guess_;
  const std::vector<CoreRow> core_;
  const double slack_;  // of costs
  const double unit_;   // of cost differences, or 0
  const double tolerance_;
  RemainingBound rest_;
  std::vector<States> lists_;  // [i]: with i rows of the core decided
  States runs_;
  std::vector<std::size_t> ends_;
};

}  // namespace

ExactResult solve_exact(const Knapsack& knapsack, std::size_t max_states) {
  const Relaxation relaxation = relax(knapsack);
  ExactResult known{improve(knapsack, relaxation.rounded), relaxation.lower_bound};
  const double gap = known.selection.cost - relaxation.lower_bound;
  // A guess just above the optimum leaves the smallest core and the fewest states.
  for (double part = 1.0 / 64; known.lower_bound < known.selection.cost; part *= 2) {
    const double guess = std::min(relaxation.lower_bound + part * gap, known.selection.cost);
    if (!Search(knapsack, relaxation, guess).run(known, max_states)) break;
  }
  return known;
}

}  // namespace lgreco
