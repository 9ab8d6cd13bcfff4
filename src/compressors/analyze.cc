#include <algorithm>
#include <cmath>
#include <limits>

#include "lgreco/method.h"
#include "src/compressors/pieces.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

void add_losses_of(Method method, const LayerValues& layer, std::span<const Level> levels,
                   std::span<double> sums) {
  std::vector<Level> own;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    if (levels[i].method != method) continue;
    own.push_back(levels[i]);
    places.push_back(i);
  }
  if (own.empty()) return;
  std::vector<double> losses(own.size(), 0.0);
  entry_of(method).add_losses(layer, own, losses);
  for (std::size_t i = 0; i < own.size(); ++i) sums[places[i]] = losses[i];
}

}  // namespace

std::vector<double> analyze(std::span<const float> values, const MatrixShape& shape,
                            std::span<const Level> levels, int pieces) {
  if (!kernels::all_finite(values.data(), values.size())) {
    return std::vector<double>(levels.size(), std::numeric_limits<double>::quiet_NaN());
  }
  std::vector<double> losses(levels.size(), 0.0);
  if (values.empty()) return losses;
  const LayerValues layer{values, shape,
                          piece_length(values.size(), static_cast<std::size_t>(pieces))};
  for (const MethodRow& row : method_table()) add_losses_of(row.method, layer, levels, losses);
  for (double& loss : losses) loss = std::sqrt(loss);
  return losses;
}

}  // namespace lgreco
