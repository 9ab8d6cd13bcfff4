// The k largest magnitudes, without a sort.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lgreco::kernels {

/// Writes the indices of the k values of largest magnitude, ascending. Among equal magnitudes the
/// smaller index wins. REQUIRES: 0 < k <= count < 2^32, no NaN.
void select_top_k(const float* values, std::size_t count, std::size_t k, std::uint32_t* indices);

}  // namespace lgreco::kernels
