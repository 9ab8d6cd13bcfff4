// All rates from one histogram of magnitudes, which is also what the encoder chooses its step from.
// Where a layer's zeros lie together, its code is shorter than a histogram can tell, and the
// encoder takes a finer step: pieces in which one rate loses another amount than estimated are
// encoded at every rate. So are pieces of which that costs little, and those of values that are
// much alike.

#include <algorithm>
#include <cmath>
#include <vector>

#include "lgreco/compressor.h"
#include "src/compressors/analyze.h"
#include "src/compressors/entropy_step.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

constexpr std::size_t kShort = 1 << 18;
constexpr double kTolerance = 0.02;  // of a square, so a percent of an error

class LossByEncoding {
 public:
  double of(std::span<const float> piece, const Level& level) {
    const auto codec = coded_compressor(level);
    left_.assign(piece.begin(), piece.end());
    payload_.resize(codec->payload_bytes(piece.size()));
    (void)codec->encode_keep_loss(left_, {}, {}, 0, payload_);  // finite, so it can be
    return kernels::sum_squares(left_.data(), left_.size());
  }

 private:
  std::vector<float> left_;
  std::vector<std::byte> payload_;
};

}  // namespace

void add_entropy_losses(const LayerValues& layer, std::span<const Level> levels,
                        std::span<double> sums) {
  std::vector<std::uint32_t> histogram(kernels::kFirstInfiniteBin);
  std::vector<double> losses(levels.size());
  LossByEncoding by_encoding;
  const auto encode_all = [&](std::span<const float> piece) {
    for (std::size_t i = 0; i < levels.size(); ++i) losses[i] = by_encoding.of(piece, levels[i]);
  };
  // False where the losses may be others.
  const auto estimate_all = [&](std::span<const float> piece) {
    std::fill(histogram.begin(), histogram.end(), 0u);
    kernels::count_magnitudes(piece.data(), nullptr, piece.size(), histogram.data());
    const EntropyStep step(histogram, piece.size());
    if (step.has_ties()) return false;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const double rate = levels[i].parameter;
      const EntropyChoice choice = step.at(rate, step.choose(rate, step.capacity_of(rate)));
      losses[i] =
          step.has_ties_at(choice) ? by_encoding.of(piece, levels[i]) : step.loss_of(choice);
    }
    const std::size_t probe = levels.size() / 2;
    const double found = by_encoding.of(piece, levels[probe]);
    return std::abs(found - losses[probe]) <= kTolerance * losses[probe];
  };
  for_each_piece(layer, [&](std::span<const float> piece) {
    if (piece.size() < kShort || !estimate_all(piece)) encode_all(piece);
    for (std::size_t i = 0; i < levels.size(); ++i) sums[i] += losses[i];
  });
}

}  // namespace lgreco
