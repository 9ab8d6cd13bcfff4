// All rates from one histogram of magnitudes, which is also what the encoder chooses its step from.

#include <vector>

#include "src/compressors/analyze.h"
#include "src/compressors/entropy_step.h"

namespace lgreco {

void add_entropy_losses(const LayerValues& layer, std::span<const Level> levels,
                        std::span<double> sums) {
  std::vector<std::uint32_t> histogram(kernels::kFirstInfiniteBin);
  for_each_piece(layer, [&](std::span<const float> piece) {
    std::fill(histogram.begin(), histogram.end(), 0u);
    kernels::add_and_count(piece.data(), nullptr, piece.size(), nullptr, histogram.data());
    const EntropyStep step(histogram, piece.size());
    for (std::size_t i = 0; i < levels.size(); ++i) {
      sums[i] += step.loss_of(step.choose_for(levels[i].parameter));
    }
  });
}

}  // namespace lgreco
