#include "lgreco/budget.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lgreco/status.h"

namespace lgreco {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(Budget, NormAndSquaredAreOfTheErrorAlone) {
  EXPECT_EQ(harm(Budget::norm, 3, 5), 3);
  EXPECT_EQ(harm(Budget::squared, 3, 5), 9);
  EXPECT_EQ(harm(Budget::norm, 3, 0), 3);
}

// The worst case: what is lost points along the constant gradient, residual = share (g + residual).
TEST(Budget, DebtIsWhatAResidualSettlesAtButForTheFactor) {
  const double norm = 2;
  for (double share : {0.1, 0.5, 0.9}) {
    double residual = 0;
    for (int step = 0; step < 1000; ++step) residual = share * (norm + residual);
    const double debt = harm(Budget::debt, share * norm, norm);
    EXPECT_LE(debt, residual * residual);
    EXPECT_GE(4 * debt, residual * residual);
  }
}

TEST(Budget, DebtOfAHalf) {
  EXPECT_DOUBLE_EQ(harm(Budget::debt, 1, 2), 0.25 / (0.75 * 0.75) * 4);
  EXPECT_EQ(harm(Budget::debt, 0, 2), 0);
}

TEST(Budget, DebtGrowsWithTheErrorFasterThanItsSquare) {
  double last = 0;
  for (double error = 0.1; error < 1; error += 0.1) {
    const double ratio = harm(Budget::debt, error, 1) / harm(Budget::squared, error, 1);
    EXPECT_GT(ratio, last);
    last = ratio;
  }
}

TEST(Budget, DebtWithoutContractionIsInfinite) {
  EXPECT_EQ(harm(Budget::debt, 2, 2), kInfinity);
  EXPECT_EQ(harm(Budget::debt, 3, 2), kInfinity);
}

TEST(Budget, NoGradientIsNoDebt) {
  EXPECT_EQ(harm(Budget::debt, 0, 0), 0);
  EXPECT_EQ(harm(Budget::debt, 1, 0), 0);
}

TEST(Budget, NanStaysNan) {
  for (Budget budget : {Budget::norm, Budget::squared, Budget::debt}) {
    EXPECT_TRUE(std::isnan(harm(budget, kNan, 1)));
  }
  EXPECT_TRUE(std::isnan(harm(Budget::debt, 1, kNan)));
}

TEST(Budget, NamesParse) {
  for (Budget budget : {Budget::norm, Budget::squared, Budget::debt}) {
    EXPECT_EQ(parse_budget(name_of(budget)), budget);
  }
  EXPECT_THROW(parse_budget("cubed"), ConfigError);
  EXPECT_THROW(parse_budget(""), ConfigError);
}

}  // namespace
}  // namespace lgreco
