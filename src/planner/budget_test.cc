#include "lgreco/budget.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lgreco/status.h"

namespace lgreco {
namespace {

TEST(Budget, CountsTheErrorOrItsSquare) {
  EXPECT_EQ(harm(Budget::norm, 3, 5), 3);
  EXPECT_EQ(harm(Budget::squared, 3, 5), 9);
}

// Each gradient loses the share e in every step in which it is still partly owed.
TEST(Budget, DebtIsOfTheLastThreeGradients) {
  for (const double share : {0.1, 0.5, 0.9, 1.0}) {
    const double norm = 5;
    double owed = 0, part = norm;
    for (int step = 0; step < 3; ++step) {
      part *= share;
      owed += part * part;
    }
    EXPECT_NEAR(harm(Budget::debt, share * norm, norm), owed, 1e-12 * owed);
  }
  EXPECT_EQ(harm(Budget::debt, 0, 5), 0);
  EXPECT_EQ(harm(Budget::debt, 0, 0), 0);
  EXPECT_EQ(harm(Budget::debt, 1, 0), 0);
}

TEST(Budget, NothingDoesMoreHarmThanSendingNothing) {
  EXPECT_EQ(harm(Budget::norm, 7, 5), 5);
  EXPECT_EQ(harm(Budget::squared, 7, 5), 25);
  EXPECT_EQ(harm(Budget::debt, 7, 5), 75);
  EXPECT_EQ(harm(Budget::norm, std::numeric_limits<double>::infinity(), 5), 5);
}

TEST(Budget, NanStaysNan) {
  for (Budget budget : {Budget::norm, Budget::squared, Budget::debt}) {
    EXPECT_TRUE(std::isnan(harm(budget, std::nan(""), 1)));
  }
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
