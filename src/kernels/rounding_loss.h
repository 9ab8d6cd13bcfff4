// What rounding to a grid loses, without rounding anything: the errors of a quantiser.
#pragma once

#include <cstddef>

namespace lgreco::kernels {

/// With t = (x - low) / unit and f its fractional part, sums over the values
///   nearest:    min(f, 1 - f)^2, the squared error in units,
///   stochastic: f * (1 - f), its expectation when t is rounded up with probability f.
/// 16 running sums in fp32 (value i goes to sum i mod 16), folded pairwise in halves; every variant
/// gives the same bits. Sums of more than some thousand values lose precision.
/// REQUIRES: unit > 0, values finite and not far below low.
float rounding_loss(const float* values, std::size_t count, float low, float unit, bool stochastic);

}  // namespace lgreco::kernels
