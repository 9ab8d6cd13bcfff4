// The Gram matrix of the smaller side of a matrix: its eigenvalues are the squared singular values.
#pragma once

#include <cstddef>

namespace lgreco::kernels {

/// Values of the longer side whose products are summed before they are added to the total.
inline constexpr std::size_t kGramDepth = 128;

/// gram = M M^T when rows <= cols, else M^T M: min(rows, cols) squared doubles, symmetric. `matrix`
/// is rows x cols, row-major. Sums run along the longer side in ascending order, in runs of
/// kGramDepth that are added up. A product of two floats is exact in double, so FMA changes nothing
/// and every variant gives the same bits. Takes work space from the heap: 1 KiB and a row of the
/// result for each row of the result.
void gram(const float* matrix, std::size_t rows, std::size_t cols, double* gram);

}  // namespace lgreco::kernels
