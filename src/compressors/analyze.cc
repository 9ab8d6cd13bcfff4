#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>

#include "lgreco/compressor.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Eigenvalues of the smaller Gram matrix, descending: the squared singular values.
Eigen::VectorXd squared_singular_values(std::span<const float> values, const MatrixShape& shape) {
  const Eigen::Map<const RowMajor> mapped(values.data(), static_cast<Eigen::Index>(shape.rows),
                                          static_cast<Eigen::Index>(shape.cols));
  const Eigen::MatrixXd matrix = mapped.cast<double>();
  const bool wide = shape.rows <= shape.cols;
  const Eigen::Index side = static_cast<Eigen::Index>(std::min(shape.rows, shape.cols));
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(side, side);
  if (wide) {
    gram.selfadjointView<Eigen::Lower>().rankUpdate(matrix);
  } else {
    gram.selfadjointView<Eigen::Lower>().rankUpdate(matrix.transpose());
  }
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram, Eigen::EigenvaluesOnly);
  return solver.eigenvalues().reverse();
}

// error(r)^2 = ||M||^2 - sum of the r largest squared singular values = the sum of the others.
std::vector<double> tails_of(const Eigen::VectorXd& squares) {
  std::vector<double> tail(static_cast<std::size_t>(squares.size()) + 1, 0.0);
  for (std::size_t r = tail.size() - 1; r > 0; --r) {
    tail[r - 1] = tail[r] + std::max(0.0, squares[static_cast<Eigen::Index>(r - 1)]);
  }
  return tail;
}

double coded_error(std::span<const float> values, const Level& level, const RandomKey& key) {
  const auto compressor = coded_compressor(level);
  std::vector<std::byte> payload(compressor->payload_bytes(values.size()));
  std::vector<float> decoded(values.size(), 0.0f);
  if (!compressor->encode(values, key, 0, payload) ||
      !compressor->decode_add(payload, decoded).is_ok()) {
    return std::numeric_limits<double>::infinity();
  }
  kernels::subtract(values.data(), decoded.data(), values.size(), decoded.data());
  return std::sqrt(kernels::sum_squares(decoded.data(), decoded.size()));
}

}  // namespace

std::vector<double> analyze(std::span<const float> values, const MatrixShape& shape,
                            std::span<const Level> levels, const RandomKey& key) {
  std::vector<double> errors;
  errors.reserve(levels.size());
  if (!kernels::all_finite(values.data(), values.size())) {
    errors.assign(levels.size(), std::numeric_limits<double>::quiet_NaN());
    return errors;
  }
  std::vector<double> tail;  // filled when the first low-rank level needs it
  for (const Level& level : levels) {
    if (level.method == Method::dense) {
      errors.push_back(0);
    } else if (level.method == Method::low_rank) {
      if (tail.empty()) tail = tails_of(squared_singular_values(values, shape));
      const std::size_t rank = std::min(static_cast<std::size_t>(level.parameter), tail.size() - 1);
      errors.push_back(std::sqrt(tail[rank]));
    } else {
      errors.push_back(coded_error(values, level, key));
    }
  }
  return errors;
}

}  // namespace lgreco
