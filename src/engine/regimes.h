// Accordion's detector of critical regimes.
//
// It needs no collective: the averages that it sums are the same bits on every rank that holds the
// layer.
#pragma once

#include <cstdint>
#include <vector>

#include "lgreco/policy.h"
#include "src/engine/layer_record.h"

namespace lgreco {

/// Whether the norm's change from one interval to the next is that of a critical regime. A norm
/// that is not finite is one, too.
bool is_critical_change(double before, double now, double threshold);

/// Sums of squares of layers' norms.
struct IntervalSquares {
  double before = 0, now = 0;
  std::uint64_t comparable = 1;  // 0: there is no interval before some layer's

  void add(const IntervalSquares& other) {
    before += other.before;
    now += other.now;
    comparable &= other.comparable;
  }
};

class Regimes {
 public:
  /// Intervals count from `start`, where compression starts.
  Regimes(const AccordionPolicy& policy, std::uint64_t start)
      : every_(policy.every), threshold_(policy.threshold), start_(start) {}

  /// An interval ends with the step before `step`.
  bool due(std::uint64_t step) const;
  /// Decide for each layer and the whole model from the sums of the interval, and begin the next
  /// one. Sums are of gradients times `grad_scale`.
  void decide(std::vector<LayerRecord>& layers, double grad_scale);
  /// Of the layers that were decided on: what is not all of a model that others hold more of.
  const IntervalSquares& squares() const { return squares_; }
  /// Decide anew for the whole model.
  void decide_for_all(const IntervalSquares& squares);
  /// Low compression everywhere until the next decision.
  void set_critical(std::vector<LayerRecord>& layers);

  /// Of the whole model.
  bool critical = true;

 private:
  std::uint64_t every_;
  double threshold_;
  std::uint64_t start_;
  IntervalSquares squares_;
};

}  // namespace lgreco
