#include <algorithm>
#include <cmath>
#include <iterator>
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
  std::vector<double> errors(levels.size(), 0.0);
  if (values.empty()) return errors;
  const LayerValues layer{values, shape,
                          piece_length(values.size(), static_cast<std::size_t>(pieces))};
  std::vector<Level> encodings;
  std::vector<std::size_t> second;  // places of second encodings, or of the first where it is both
  std::transform(levels.begin(), levels.end(), std::back_inserter(encodings), scatter_level);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const bool differs = levels[i].gather_parameter != 0;
    second.push_back(differs ? encodings.size() : i);
    if (differs) encodings.push_back(gather_level(levels[i]));
  }
  std::vector<double> losses(encodings.size(), 0.0);
  for (const MethodRow& row : method_table()) add_losses_of(row.method, layer, encodings, losses);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    errors[i] = std::sqrt((losses[i] + losses[second[i]]) / 2);
  }
  return errors;
}

}  // namespace lgreco
