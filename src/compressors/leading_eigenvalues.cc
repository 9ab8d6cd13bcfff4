#include "src/compressors/leading_eigenvalues.h"

#include <Eigen/Dense>
#include <algorithm>
#include <limits>

#include "src/base/random.h"

namespace lgreco {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// Columns beyond the eigenvalues wanted: the space converges with the gap behind them.
constexpr Index kOversampling = 8;

// What is left of a column, relative to its length, when it is only rounding.
constexpr double kDependent = 1e-14;

MatrixXd random_block(Index side, Index columns) {
  const RandomStream stream = stream_of({});
  MatrixXd block(side, columns);
  for (Index i = 0; i < block.size(); ++i) {
    block.data()[i] = static_cast<double>(uniform(stream, static_cast<std::uint32_t>(i))) - 0.5;
  }
  return block;
}

// Projects until nothing more is lost: once is not enough when little is left of the column.
void make_orthogonal(const Eigen::Ref<const MatrixXd>& basis, Eigen::Ref<VectorXd> column) {
  constexpr int kMaxPasses = 4;
  double before = column.norm(), after = 0;
  for (int pass = 0; pass < kMaxPasses && after < 0.7 * before; ++pass) {
    if (pass > 0) before = after;
    column -= basis * (basis.transpose() * column).eval();
    after = column.norm();
  }
}

class KrylovSpace {
 public:
  KrylovSpace(const BlockOperator& apply, MatrixXd start)
      : apply_(apply), next_(std::move(start)), basis_(next_.rows(), 0), image_(next_.rows(), 0) {}

  /// False when the space has all the start leads to and cannot grow.
  bool grow() {
    const Index old = basis_.cols();
    extend_basis();
    const Index grown = basis_.cols();
    if (grown == old) return false;
    image_.conservativeResize(Eigen::NoChange, grown);
    image_.rightCols(grown - old) = apply_(basis_.rightCols(grown - old));
    projected_.conservativeResize(grown, grown);
    projected_.bottomRows(grown - old) = image_.rightCols(grown - old).transpose() * basis_;
    next_ = image_.rightCols(grown - old);
    return true;
  }

  /// Of the operator on the space, descending.
  VectorXd eigenvalues() const {
    const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(projected_, Eigen::EigenvaluesOnly);
    return solver.eigenvalues().reverse();
  }

 private:
  void extend_basis() {
    const Eigen::RowVectorXd lengths = next_.colwise().norm();
    next_ -= basis_ * (basis_.transpose() * next_).eval();  // most of it, as one product
    Index columns = basis_.cols();
    basis_.conservativeResize(Eigen::NoChange, std::min(columns + next_.cols(), basis_.rows()));
    for (Index i = 0; i < next_.cols() && columns < basis_.rows(); ++i) {
      make_orthogonal(basis_.leftCols(columns), next_.col(i));
      const double length = next_.col(i).norm();
      if (!(length > kDependent * lengths[i])) continue;
      basis_.col(columns++) = next_.col(i) / length;
    }
    basis_.conservativeResize(Eigen::NoChange, columns);
  }

  const BlockOperator& apply_;
  MatrixXd next_;
  MatrixXd basis_;
  MatrixXd image_;
  MatrixXd projected_;  // basis^T image; its lower triangle is filled in
};

}  // namespace

VectorXd leading_eigenvalues(const BlockOperator& apply, Index side, Index wanted, double trace,
                             const TailTolerance& tolerance) {
  KrylovSpace space(apply, random_block(side, std::min(side, wanted + kOversampling)));
  VectorXd values;
  double tail = std::numeric_limits<double>::infinity();
  while (space.grow()) {
    values = space.eigenvalues();
    const double before = tail;
    tail = trace - values.head(std::min(wanted, values.size())).sum();
    if (before - tail <= tolerance.of_tail * tail + tolerance.of_trace * trace) break;
  }
  return values;
}

}  // namespace lgreco
