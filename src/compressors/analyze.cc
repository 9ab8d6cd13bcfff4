#include "src/compressors/analyze.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/compressors/pieces.h"
#include "src/kernels/elementwise.h"

namespace lgreco {

std::vector<double> analyze(std::span<const float> values, const MatrixShape& shape,
                            std::span<const Level> levels, int pieces) {
  if (!kernels::all_finite(values.data(), values.size())) {
    return std::vector<double>(levels.size(), std::numeric_limits<double>::quiet_NaN());
  }
  std::vector<double> losses(levels.size(), 0.0);  // of dense, and of an empty layer
  if (values.empty()) return losses;
  add_cast_losses(values, levels, losses);
  add_low_rank_losses(values, shape, levels, losses);
  TopKAnalysis topk(levels);
  const std::size_t length = piece_length(values.size(), static_cast<std::size_t>(pieces));
  for (std::size_t at = 0; at < values.size(); at += length) {
    const auto piece = values.subspan(at, std::min(length, values.size() - at));
    add_quantize_losses(piece, levels, losses);
    topk.add_losses(piece, losses);
  }
  for (double& loss : losses) loss = std::sqrt(loss);
  return losses;
}

}  // namespace lgreco
