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
  double squares_before = 0, squares_now = 0;
  bool comparable = true;
  for (LayerRecord& layer : layers) {
    std::vector<float>& sum = layer.interval_sum;
    const double norm = std::sqrt(kernels::sum_squares(sum.data(), sum.size())) / grad_scale;
    const double before = layer.interval_norm;
    if (before >= 0) {
      layer.critical = is_critical_change(before, norm, threshold_);
      squares_before += before * before;
    } else {
      comparable = false;
    }
    squares_now += norm * norm;
    layer.interval_norm = norm;
    std::fill(sum.begin(), sum.end(), 0.0f);
  }
  if (comparable) {
    critical = is_critical_change(std::sqrt(squares_before), std::sqrt(squares_now), threshold_);
  }
}

void Regimes::set_critical(std::vector<LayerRecord>& layers) {
  for (LayerRecord& layer : layers) layer.critical = true;
  critical = true;
}

}  // namespace lgreco
