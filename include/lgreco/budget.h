// What a budget counts: how much harm a layer's compression error does.
//
// A plan's harms are summed over the layers, and the sum must stay within what the reference level
// causes.
#pragma once

#include <cstdint>
#include <string_view>

namespace lgreco {

enum class Budget : std::uint8_t {
  norm,     // the error's L2 norm (L-GreCo, MLSys 2024)
  squared,  // its square: the norm of the whole model's error, squared
};

/// `error` is the L2 norm of what a level loses of a layer, `norm` that of the layer. A larger
/// error counts as `norm`, since sending nothing at all would lose no more. NaN stays NaN.
double harm(Budget budget, double error, double norm);

/// "norm" or "squared". Throws ConfigError on anything else.
Budget parse_budget(std::string_view name);

/// The inverse of `parse_budget`.
std::string_view name_of(Budget budget);

}  // namespace lgreco
