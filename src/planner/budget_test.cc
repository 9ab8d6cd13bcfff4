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

TEST(Budget, NothingDoesMoreHarmThanSendingNothing) {
  EXPECT_EQ(harm(Budget::norm, 7, 5), 5);
  EXPECT_EQ(harm(Budget::squared, 7, 5), 25);
  EXPECT_EQ(harm(Budget::norm, std::numeric_limits<double>::infinity(), 5), 5);
}

TEST(Budget, NanStaysNan) {
  for (Budget budget : {Budget::norm, Budget::squared}) {
    EXPECT_TRUE(std::isnan(harm(budget, std::nan(""), 1)));
  }
}

TEST(Budget, NamesParse) {
  for (Budget budget : {Budget::norm, Budget::squared}) {
    EXPECT_EQ(parse_budget(name_of(budget)), budget);
  }
  EXPECT_THROW(parse_budget("cubed"), ConfigError);
  EXPECT_THROW(parse_budget(""), ConfigError);
}

}  // namespace
}  // namespace lgreco
