// All ranks from the largest squared singular values s_i, the eigenvalues of the Gram matrix G of
// the smaller side: error(r)^2 = ||M||^2 - (s_1 + ... + s_r), where ||M||^2 is the trace of G.
// What rounding the factors adds is from a model, rounding().
//
// Up to a side of kLargestGram G is computed, in double, and the errors are right within 1e-4 as
// far as they exceed 1e-5 of ||M||. Beyond, G is only applied to blocks of vectors, M^T (M x) in
// fp32; the errors are then right within 1 % as far as they exceed 1 % of ||M||.
//
// The Gram matrix and the products have the same bits on every CPU. The eigenvalues are Eigen's,
// whose order of summation is fixed when it is compiled: equal binaries give equal bits.

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "src/compressors/analyze.h"
#include "src/compressors/leading_eigenvalues.h"
#include "src/compressors/quantized_columns.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/gram.h"
#include "src/kernels/low_rank.h"

namespace lgreco {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr std::size_t kLargestGram = 1024;
constexpr TailTolerance kGramTolerance{.of_tail = 1e-6, .of_trace = 1e-14};
constexpr TailTolerance kProductTolerance{.of_tail = 1e-3, .of_trace = 1e-6};

/// Squared singular values, descending, as many as were wanted or more, and the sum of all.
struct Spectrum {
  VectorXd squares;
  double total = 0;
};

// Whether the Krylov space would come close to the whole, so that one takes the whole at once.
bool wants_most_of(Index side, Index wanted) { return side <= 128 || 4 * wanted >= side; }

Spectrum spectrum_by_gram(std::span<const float> values, const MatrixShape& shape, Index wanted) {
  const Index side = static_cast<Index>(std::min(shape.rows, shape.cols));
  MatrixXd gram(side, side);
  kernels::gram(values.data(), shape.rows, shape.cols, gram.data());
  const double trace = gram.trace();
  if (wants_most_of(side, wanted)) {
    const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(gram, Eigen::EigenvaluesOnly);
    return {solver.eigenvalues().reverse(), trace};
  }
  const auto apply = [&](const MatrixXd& block) -> MatrixXd { return gram * block; };
  return {leading_eigenvalues(apply, side, wanted, trace, kGramTolerance), trace};
}

// Gram matrix times block, without the Gram matrix. Both products are scaled by a power of two that
// brings the values near 1, so that fp32 holds them whatever the scale of the layer.
Spectrum spectrum_by_products(std::span<const float> values, const MatrixShape& shape,
                              Index wanted) {
  const float largest = kernels::max_magnitude(values.data(), values.size());
  const int shift = largest == 0 ? 0 : std::clamp(-std::ilogb(largest), -100, 100);
  const float scale = std::ldexp(1.0f, shift);
  const bool wide = shape.rows <= shape.cols;
  const auto to_rows = [&](const Eigen::MatrixXf& block) {
    Eigen::MatrixXf out(shape.rows, block.cols());
    kernels::multiply(values.data(), shape.rows, shape.cols, block.data(),
                      static_cast<std::size_t>(block.cols()), out.data());
    return out;
  };
  const auto to_cols = [&](const Eigen::MatrixXf& block) {
    Eigen::MatrixXf out(shape.cols, block.cols());
    kernels::multiply_transposed(values.data(), shape.rows, shape.cols, block.data(),
                                 static_cast<std::size_t>(block.cols()), out.data());
    return out;
  };
  const auto apply = [&](const MatrixXd& block) -> MatrixXd {
    const Eigen::MatrixXf scaled = block.cast<float>() * scale;
    const Eigen::MatrixXf product =
        wide ? to_rows(to_cols(scaled) * scale) : to_cols(to_rows(scaled) * scale);
    return product.cast<double>();
  };
  const double unscale = std::ldexp(1.0, -2 * shift);
  const double total = kernels::sum_squares(values.data(), values.size());
  const Index side = static_cast<Index>(std::min(shape.rows, shape.cols));
  const VectorXd squares =
      leading_eigenvalues(apply, side, wanted, total / unscale, kProductTolerance);
  return {squares * unscale, total};
}

Spectrum spectrum_of(std::span<const float> values, const MatrixShape& shape, std::size_t wanted) {
  const std::size_t side = std::min(shape.rows, shape.cols);
  const Index count = static_cast<Index>(wanted);
  if (side <= kLargestGram || wants_most_of(static_cast<Index>(side), count)) {
    return spectrum_by_gram(values, shape, count);
  }
  return spectrum_by_products(values, shape, count);
}

/// What factors in bits lose of the `found` squares of `rank` singular values, of which all others
/// have `tail`. A rounded column of P points elsewhere by an angle whose tangent's square is the
/// rounding's share, in a direction that is random: of what it gives away, it meets some in the
/// tail, which all `rows` directions share. Then Q loses that share of itself.
double rounding(int bits, double found, double tail, double rank, double rows) {
  const double share = rounding_loss_of_normal(bits);
  const double outside = std::max(0.0, 1 - rank / rows);
  const double turned = share / (1 + share) * std::max(0.0, found * outside - tail * rank / rows);
  return turned + share * (found - turned);
}

}  // namespace

void add_low_rank_losses(const LayerValues& layer, std::span<const Level> levels,
                         std::span<double> sums) {
  const std::size_t side = std::min(layer.shape.rows, layer.shape.cols);
  std::size_t wanted = 0;  // from rank `side` on nothing is lost
  for (const Level& level : levels) {
    const auto rank = static_cast<std::size_t>(level.parameter);
    if (rank < side) wanted = std::max(wanted, rank);
  }
  const Spectrum spectrum =
      wanted > 0
          ? spectrum_of(layer.values, layer.shape, wanted)
          : Spectrum{.squares = {},
                     .total = kernels::sum_squares(layer.values.data(), layer.values.size())};
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto rank = std::min(side, static_cast<std::size_t>(levels[i].parameter));
    const double found =
        rank == side ? spectrum.total : spectrum.squares.head(static_cast<Index>(rank)).sum();
    const double tail = std::max(0.0, spectrum.total - found);
    sums[i] += tail;
    if (levels[i].factor_bits == 0) continue;
    sums[i] += rounding(levels[i].factor_bits, found, tail, static_cast<double>(rank),
                        static_cast<double>(layer.shape.rows));
  }
}

}  // namespace lgreco
