#include "src/compressors/analyze.h"

#include <limits>

#include "src/kernels/elementwise.h"

namespace lgreco {

std::vector<double> analyze(std::span<const float> values, const MatrixShape& shape,
                            std::span<const Level> levels, const RandomKey&) {
  if (!kernels::all_finite(values.data(), values.size())) {
    return std::vector<double>(levels.size(), std::numeric_limits<double>::quiet_NaN());
  }
  std::vector<double> errors(levels.size(), 0.0);  // as they are for dense
  if (values.empty()) return errors;
  analyze_cast(values, levels, errors);
  analyze_quantize(values, levels, errors);
  analyze_topk(values, levels, errors);
  analyze_low_rank(values, shape, levels, errors);
  return errors;
}

}  // namespace lgreco
