#include "src/planner/exact.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
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

/// A state that passes its bound is merged and remembered, which takes this many times as long.
constexpr std::size_t kWorkOfKeeping = 8;

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
    states_.assign(1, State{0, 0, 0, 0});
    while (chosen_.size() < core_.size() && !states_.empty()) {
      const std::size_t work = states_.size() * core_[chosen_.size()].options.size();
      if (work > states_left / kWorkOfKeeping) {
        known.lower_bound = std::max(known.lower_bound, lower_bound(known.selection.cost));
        look_along_the_best(known.selection);
        return false;
      }
      states_left -= work;
      const std::size_t kept = decide_next(known.selection);
      states_left -= std::min(states_left, (kWorkOfKeeping - 1) * kept);
    }
    // What is left does not fit, be it by a rounding.
    known.lower_bound = std::max(known.lower_bound, std::min(known.selection.cost, guess_));
    return true;
  }

 private:
  struct Choice {
    std::uint32_t parent;
    std::uint32_t option;
  };

  double room() const { return knapsack_.budget - base_.error; }

  /// What a selection may cost at most, relative to the base, to be looked for.
  double limit(double best_cost) const {
    const double best = best_cost - base_.cost, guess = guess_ - base_.cost;
    if (unit_ == 0) return std::min(best - slack_, guess);
    const double below_best = std::ceil((best - slack_) / unit_) - 1;
    return unit_ * std::min(below_best, std::floor((guess + slack_) / unit_)) + slack_;
  }

  std::size_t decide_next(Selection& best) {
    const std::size_t kept = extend(best.cost);
    look_for_better(best);
    return kept;
  }

  /// Goes on with only the most promising states, so that the best selection is a good one.
  void look_along_the_best(Selection& best) {
    guess_ = std::numeric_limits<double>::infinity();
    while (chosen_.size() < core_.size() && !states_.empty()) {
      keep_most_promising(kBeamWidth);
      decide_next(best);
    }
  }

  void keep_most_promising(std::size_t count) {
    if (states_.size() <= count) return;
    std::vector<std::pair<double, std::size_t>> bounds;
    RemainingBound::Sweep rest(rest_);
    for (const State& state : states_) {
      bounds.emplace_back(state.cost + rest.at(room() - state.error), bounds.size());
    }
    std::nth_element(bounds.begin(), bounds.begin() + static_cast<std::ptrdiff_t>(count),
                     bounds.end());
    bounds.resize(count);
    std::sort(bounds.begin(), bounds.end(),
              [](const auto& a, const auto& b) { return a.second < b.second; });
    for (std::size_t k = 0; k < count; ++k) states_[k] = states_[bounds[k].second];
    states_.resize(count);
    chosen_.back() = choices();
  }

  std::vector<Choice> choices() const {
    std::vector<Choice> choices;
    choices.reserve(states_.size());
    for (const State& state : states_) choices.push_back({state.parent, state.option});
    return choices;
  }

  /// Decides one more row. Returns how many states its bound let pass.
  std::size_t extend(double best_cost) {
    const std::size_t decided = chosen_.size();
    rest_.decide(decided);
    const double limit = this->limit(best_cost);
    runs_.clear();
    ends_.clear();
    const auto& options = core_[decided].options;
    for (std::uint32_t o = 0; o < options.size(); ++o) {
      const double room = this->room() - options[o].error;
      RemainingBound::Sweep rest(rest_);
      for (std::uint32_t s = 0; s < states_.size(); ++s) {
        const double cost = states_[s].cost + options[o].cost;
        if (cost + rest.at(room - states_[s].error) > limit) continue;
        runs_.push_back({states_[s].error + options[o].error, cost, s, o});
      }
      ends_.push_back(runs_.size());
    }
    const std::size_t kept = runs_.size();
    keep_undominated(runs_, ends_, scratch_);
    states_.swap(runs_);
    chosen_.push_back(choices());
    return kept;
  }

  /// The cheapest states are those with the largest errors that fit.
  void look_for_better(Selection& best) const {
    const auto fits = [&](const State& state) { return state.error <= room() + tolerance_; };
    auto end = std::partition_point(states_.begin(), states_.end(), fits);
    while (end != states_.begin() && (--end)->cost < best.cost - base_.cost) {
      Selection found = trace(static_cast<std::size_t>(end - states_.begin()));
      if (found.error > knapsack_.budget) continue;  // by a rounding
      if (found.cost < best.cost) best = std::move(found);
      return;
    }
  }

  Selection trace(std::size_t state) const {
    auto positions = base_.positions;
    for (std::size_t i = chosen_.size(); i-- > 0;) {
      const Choice& last = chosen_[i][state];
      positions[core_[i].row] = core_[i].options[last.option].position;
      state = last.parent;
    }
    return select(knapsack_, std::move(positions));
  }

  /// What is neither the best nor costs more than the guess can still come out of the list.
  double lower_bound(double best_cost) const {
    double least = std::numeric_limits<double>::infinity();
    RemainingBound::Sweep rest(rest_);
    for (const State& state : states_) {
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
  States states_;
  std::vector<std::vector<Choice>> chosen_;  // [i]: in row i of the core, by each state after it
  States runs_, scratch_;
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
