// Products of a tall or wide matrix with a few columns, and orthonormalisation.
//
// `matrix` is rows x cols, row-major. Factors are stored column after column: `left` is `rank` runs
// of `rows` floats, `right` is `rank` runs of `cols` floats; rank > 0. No FMA and fixed orders of
// summation: every variant gives the same bits.
#pragma once

#include <cstddef>

namespace lgreco::kernels {

/// left = matrix * right. Each entry is a dot product over `cols`: 16 running sums (column j goes
/// to sum j mod 16), folded pairwise in halves.
void multiply(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
              std::size_t rank, float* left);

/// matrix += addend, and left = matrix * right as multiply() gives it, in one pass.
void add_and_multiply(const float* addend, std::size_t rows, std::size_t cols, const float* right,
                      std::size_t rank, float* matrix, float* left);

/// right = matrix^T * left. Each entry sums over the rows in ascending order.
void multiply_transposed(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                         std::size_t rank, float* right);

/// matrix = left * right^T. Each entry sums over the rank in ascending order, starting from the
/// first product.
void reconstruct(const float* left, const float* right, std::size_t rows, std::size_t cols,
                 std::size_t rank, float* matrix);

/// matrix = left * right^T as reconstruct() gives it, and loss = what matrix was, less left *
/// own^T, in one pass. `own` may be `right`; `loss` may be `matrix`, which holds the loss in the
/// end.
void reconstruct_keep_loss(const float* left, const float* right, const float* own,
                           std::size_t rows, std::size_t cols, std::size_t rank, float* matrix,
                           float* loss);

/// Make the columns of `left` orthonormal to the precision of fp32, left to right and in place
/// (Gram-Schmidt, twice, sums in double). A column that is zero, or that the earlier ones explain
/// up to rounding, becomes zero. Scale-free: a column times 2^k gives the same bits.
void orthonormalize(float* left, std::size_t rows, std::size_t rank);

}  // namespace lgreco::kernels
