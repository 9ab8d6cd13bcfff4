// What a budget counts: how much harm a layer's compression error does.
//
// A plan's harms are summed over the layers, and the sum must stay within what the reference level
// causes. Most people want `norm`, the published one.
#pragma once

#include <cstdint>
#include <string_view>

namespace lgreco {

enum class Budget : std::uint8_t {
  norm,     // the error's L2 norm
  squared,  // its square: the norm of the whole model's error, squared
  debt,     // what error feedback keeps back in the long run, squared
};

/// `error` is the L2 norm of what a level loses of a layer, `norm` that of the layer.
///
/// `debt` is a bound on the squared norm of the residual that error feedback settles at when every
/// step loses the share e = error / norm of what it is given: (e / (1 - e^2))^2 norm^2, without the
/// factor 4 that all layers share (Karimireddy et al., ICML 2019, lemma 3). Infinite when e >= 1:
/// the residual may then grow for ever. 0 for a layer without gradient. NaN stays NaN.
double harm(Budget budget, double error, double norm);

/// "norm", "squared" or "debt". Throws ConfigError on anything else.
Budget parse_budget(std::string_view name);

/// The inverse of `parse_budget`.
std::string_view name_of(Budget budget);

}  // namespace lgreco
