// The largest eigenvalues of a large symmetric operator, without the others.
#pragma once

#include <Eigen/Core>
#include <functional>

namespace lgreco {

/// A symmetric positive semidefinite operator: takes `side` x b and gives `side` x b.
using BlockOperator = std::function<Eigen::MatrixXd(const Eigen::MatrixXd&)>;

/// When a tail, the sum of all eigenvalues but those found, is good enough: when it changes by less
/// than `of_tail` of itself or by less than `of_trace` of the sum of all, which is rounding.
struct TailTolerance {
  double of_tail;
  double of_trace;
};

/// At least `wanted` largest eigenvalues, descending (all, if there are fewer), by a block Krylov
/// space (Golub and Underwood 1977; Musco and Musco 2015) from a fixed random start. The block has
/// more columns than eigenvalues are wanted, so that equal ones are found as often as they occur.
/// The space grows until the tail stays the same. `trace` is the sum of all eigenvalues.
Eigen::VectorXd leading_eigenvalues(const BlockOperator& apply, Eigen::Index side,
                                    Eigen::Index wanted, double trace,
                                    const TailTolerance& tolerance);

}  // namespace lgreco
