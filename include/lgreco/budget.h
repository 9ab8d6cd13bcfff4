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
  debt,     // what error feedback still owes of the last three gradients, squared
};

/// `error` is the L2 norm of what a level loses of a layer, `norm` that of the layer. A larger
/// error counts as `norm`, since sending nothing at all would lose no more. NaN stays NaN.
///
/// `debt`: a level that loses the share e = error / norm of what it is given leaves e of the last
/// gradient, e^2 of the one before and e^3 of the one before that; the squared norm of these parts,
/// taken as unrelated: norm^2 (e^2 + e^4 + e^6). Between families it predicts accuracy better than
/// the others (docs/budget_study.md).
double harm(Budget budget, double error, double norm);

/// "norm", "squared" or "debt". Throws ConfigError on anything else.
Budget parse_budget(std::string_view name);

/// The inverse of `parse_budget`.
std::string_view name_of(Budget budget);

}  // namespace lgreco
