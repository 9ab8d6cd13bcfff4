#include <algorithm>

#include "src/compressors/analyze.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

// Infinite when a value overflows the type.
double cast_loss(std::span<const float> values, DType to) {
  constexpr std::size_t kBlock = 1024;
  std::uint16_t halves[kBlock];
  float lost[kBlock];
  double squares = 0;
  for (std::size_t at = 0; at < values.size(); at += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - at);
    const float* block = values.data() + at;
    if (to == DType::bf16) {
      kernels::to_bf16(block, count, halves);
      kernels::from_bf16(halves, count, lost);
    } else {
      kernels::to_f16(block, count, halves);
      kernels::from_f16(halves, count, lost);
    }
    kernels::subtract(block, lost, count, lost);
    squares += kernels::sum_squares(lost, count);
  }
  return squares;
}

}  // namespace

void add_cast_losses(const LayerValues& layer, std::span<const Level> levels,
                     std::span<double> sums) {
  for (std::size_t i = 0; i < levels.size(); ++i) {
    sums[i] += cast_loss(layer.values, levels[i].values);
  }
}

}  // namespace lgreco
