// The families of `analyze`. Each adds the square of what a level of its method loses to the sum at
// the level's position. REQUIRES: values are finite and not empty, sums.size() == levels.size().
#pragma once

#include <span>

#include "lgreco/compressor.h"

namespace lgreco {

void add_cast_losses(std::span<const float> values, std::span<const Level> levels,
                     std::span<double> sums);
void add_low_rank_losses(std::span<const float> values, const MatrixShape& shape,
                         std::span<const Level> levels, std::span<double> sums);

/// For values that are encoded by themselves, such as one piece of a layer.
void add_quantize_losses(std::span<const float> values, std::span<const Level> levels,
                         std::span<double> sums);

/// The same for topk, for as many pieces as there are of one layer, each with its own k. Owns the
/// work space.
class TopKAnalysis {
 public:
  explicit TopKAnalysis(std::span<const Level> levels);
  ~TopKAnalysis();
  TopKAnalysis(const TopKAnalysis&) = delete;
  TopKAnalysis& operator=(const TopKAnalysis&) = delete;

  void add_losses(std::span<const float> values, std::span<double> sums);

 private:
  class Histogram;

  std::span<const Level> levels_;
  std::vector<std::size_t> by_density_;  // positions of the topk levels, the largest density first
  std::unique_ptr<Histogram> histogram_;
};

}  // namespace lgreco
