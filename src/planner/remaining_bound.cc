#include "src/planner/remaining_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lgreco {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

RemainingBound::RemainingBound(const std::vector<CoreRow>& core, double tolerance)
    : tolerance_(tolerance) {
  for (std::size_t i = 0; i < core.size(); ++i) add_steps(core[i], i);
  std::stable_sort(spending_.begin(), spending_.end(),
                   [](const Step& a, const Step& b) { return a.price > b.price; });
  std::stable_sort(freeing_.begin(), freeing_.end(),
                   [](const Step& a, const Step& b) { return a.price < b.price; });
  draw();
}

void RemainingBound::add_steps(const CoreRow& row, std::size_t index) {
  const auto& options = row.options;
  const auto base = std::find_if(options.begin(), options.end(),
                                 [](const Option& option) { return option.error == 0; });
  // The relaxation's choice is a vertex of the hull: walk from it to either side, always to the
  // option with the best price.
  for (auto from = base; from + 1 != options.end();) {
    auto best = from + 1;
    double price = -kInfinity;
    for (auto to = from + 1; to != options.end(); ++to) {
      const double p = (from->cost - to->cost) / (to->error - from->error);
      if (p >= price) price = p, best = to;
    }
    spending_.push_back({index, best->error - from->error, from->cost - best->cost, price});
    from = best;
  }
  for (auto from = base; from != options.begin();) {
    auto best = from - 1;
    double price = kInfinity;
    for (auto to = from; to-- != options.begin();) {
      const double p = (to->cost - from->cost) / (from->error - to->error);
      if (p <= price) price = p, best = to;
    }
    freeing_.push_back({index, from->error - best->error, best->cost - from->cost, price});
    from = best;
  }
}

void RemainingBound::decide(std::size_t row) {
  const auto is_of_row = [row](const Step& step) { return step.row == row; };
  std::erase_if(spending_, is_of_row);
  std::erase_if(freeing_, is_of_row);
  draw();
}

void RemainingBound::draw() {
  points_.clear();
  Point point{0, 0, freeing_.empty() ? kInfinity : freeing_.front().price};
  points_.push_back(point);
  for (const Step& step : spending_) {
    point = {point.room + step.error, point.cost - step.cost, step.price};
    points_.push_back(point);
  }
  std::reverse(points_.begin(), points_.end());
  point = points_.back();
  for (std::size_t i = 0; i < freeing_.size(); ++i) {
    point.room -= freeing_[i].error;
    point.cost += freeing_[i].cost;
    point.price = i + 1 < freeing_.size() ? freeing_[i + 1].price : kInfinity;
    points_.push_back(point);
  }
  points_.push_back({-kInfinity, kInfinity, kInfinity});
}

double RemainingBound::Sweep::at(double room) {
  while (room < point_[1].room) ++point_;
  if (room >= point_->room) return point_->cost;
  if (point_->price < kInfinity) return point_->cost + point_->price * (point_->room - room);
  return point_->room - room <= tolerance_ ? point_->cost : kInfinity;
}

}  // namespace lgreco
