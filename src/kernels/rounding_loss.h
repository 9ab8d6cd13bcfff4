// What rounding to a grid loses, without rounding anything: the errors of a quantiser.
#pragma once

#include <algorithm>
#include <cstddef>

#include "src/kernels/quantize.h"

namespace lgreco::kernels {

/// Sums over the values, in squares of the larger unit: with t = x / unit, of which the part within
/// the grid has the fraction f,
///   nearest:    min(f, 1 - f)^2, the squared error in units,
///   stochastic: f * (1 - f), its expectation when t is rounded up with probability f,
/// and the square of what is beyond the grid. 16 running sums in fp32 (value i goes to sum i mod
/// 16), folded pairwise in halves; every variant gives the same bits. Sums of more than some
/// thousand values lose precision. REQUIRES: as quantize_pack(); a unit > 0, values finite.
float rounding_loss(const float* values, std::size_t count, const Grid& grid, bool stochastic);

/// The sum of `loss_of(at, length)`, fp32 sums over runs of a thousand values.
template <typename LossOf>
double sum_of_losses(std::size_t count, const LossOf& loss_of) {
  constexpr std::size_t kRun = 1024;
  double loss = 0;
  for (std::size_t at = 0; at < count; at += kRun) {
    loss += static_cast<double>(loss_of(at, std::min(kRun, count - at)));
  }
  return loss;
}

}  // namespace lgreco::kernels
