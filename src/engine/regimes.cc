#include "src/engine/regimes.h"

#include <algorithm>
#include <cmath>

#include "src/kernels/elementwise.h"

namespace lgreco {

bool is_critical_change(double before, double now, double threshold) {
  if (before == 0) return true;
  return !(std::abs(before - now) / before < threshold);
}

bool Regimes::due(std::uint64_t step) const {
  return step > start_ && (step - start_) % every_ == 0;
}

void Regimes::decide(std::vector<LayerRecord>& layers, double grad_scale) {
  squares_ = {};
  for (LayerRecord& layer : layers) {
    std::vector<float>& sum = layer.interval_sum;
    const double norm = std::sqrt(kernels::sum_squares(sum.data(), sum.size())) / grad_scale;
    const double before = layer.interval_norm;
    if (before >= 0) {
      layer.critical = is_critical_change(before, norm, threshold_);
      squares_.before += before * before;
    } else {
      squares_.comparable = 0;
    }
    squares_.now += norm * norm;
    layer.interval_norm = norm;
    std::fill(sum.begin(), sum.end(), 0.0f);
  }
  decide_for_all(squares_);
}

void Regimes::decide_for_all(const IntervalSquares& squares) {
  if (squares.comparable == 0) return;
  critical = is_critical_change(std::sqrt(squares.before), std::sqrt(squares.now), threshold_);
}

void Regimes::set_critical(std::vector<LayerRecord>& layers) {
  for (LayerRecord& layer : layers) layer.critical = true;
  critical = true;
}

}  // namespace lgreco
