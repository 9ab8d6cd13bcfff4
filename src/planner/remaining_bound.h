// The linear relaxation of the rows that a search has not decided yet.
#pragma once

#include <cstddef>
#include <vector>

#include "src/planner/core.h"

namespace lgreco {

/// Least cost of the undecided rows as a function of the room they have, both relative to the
/// relaxation's choice in them. Convex, falling, piecewise linear; infinite where even the smallest
/// errors do not fit.
class RemainingBound {
  struct Point;

 public:
  /// A room that is too small by at most `tolerance` is taken for enough.
  RemainingBound(const std::vector<CoreRow>& core, double tolerance);

  /// Row `row` of the core is decided now. Ends all sweeps.
  void decide(std::size_t row);

  /// Values at rooms that do not grow from call to call.
  class Sweep {
   public:
    explicit Sweep(const RemainingBound& bound)
        : point_(bound.points_.data()), tolerance_(bound.tolerance_) {}

    double at(double room);

   private:
    const Point* point_;
    double tolerance_;
  };

 private:
  struct Point {
    double room;
    double cost;
    double price;  // of going down to the next point
  };
  /// Between two neighbours on the convex hull of a row's options.
  struct Step {
    std::size_t row;
    double error;
    double cost;
    double price;  // cost / error
  };

  void add_steps(const CoreRow& row, std::size_t index);
  void draw();

  double tolerance_;
  std::vector<Step> spending_;  // from the relaxation's choice to more error, best price first
  std::vector<Step> freeing_;   // to less error, best price first
  std::vector<Point> points_;   // by descending room; ends with one that no room is below
};

}  // namespace lgreco
