#include "lgreco/network.h"

#include <gtest/gtest.h>

#include <limits>

#include "lgreco/status.h"

namespace lgreco {
namespace {

TEST(Network, WireSecondsAreLatencyAndBytes) {
  const Network network{.bandwidth = 1000, .latency = 0.5};
  EXPECT_DOUBLE_EQ(wire_seconds(2000, 2, 2, network), 1 + 2);
  EXPECT_DOUBLE_EQ(wire_seconds(2000, 4, 8, network), 2 + 3.5);
  EXPECT_EQ(wire_seconds(2000, 4, 1, network), 0);
}

TEST(Network, TwoRanksTakeHalfTheCollectives) {
  EXPECT_EQ(collectives_of_bucket(/*has_two_rounds=*/false, 2), 1);
  EXPECT_EQ(collectives_of_bucket(/*has_two_rounds=*/true, 2), 2);
  EXPECT_EQ(collectives_of_bucket(/*has_two_rounds=*/false, 8), 2);
  EXPECT_EQ(collectives_of_bucket(/*has_two_rounds=*/true, 8), 4);
}

TEST(Network, CodingIsOnceEncodingAndUpToTwiceDecoding) {
  EXPECT_DOUBLE_EQ(coding_seconds(3, 1, 1), 3 + 1);
  EXPECT_DOUBLE_EQ(coding_seconds(3, 1, 2), 3 + 2);
  EXPECT_DOUBLE_EQ(coding_seconds(3, 1, 4), 3 + 1.75);
}

TEST(Network, RefusesImpossibleOnes) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_NO_THROW(check(Network{.bandwidth = 1, .latency = 0}));
  EXPECT_THROW(check(Network{}), ConfigError);
  EXPECT_THROW(check(Network{.bandwidth = infinity}), ConfigError);
  EXPECT_THROW(check(Network{.bandwidth = 1, .latency = -1}), ConfigError);
  EXPECT_THROW(check(Network{.bandwidth = 1, .latency = infinity}), ConfigError);
}

}  // namespace
}  // namespace lgreco
