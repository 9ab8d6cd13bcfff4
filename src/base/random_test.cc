#include "src/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace lgreco {
namespace {

TEST(Random, IsUniformAndUncorrelated) {
  const RandomStream stream = stream_of({1, 2, 3});
  constexpr int kCount = 1 << 20;
  double sum = 0, squares = 0, lagged = 0;
  float previous = 0.5f;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const float u = uniform(stream, i);
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
    lagged += (u - 0.5) * (previous - 0.5);
    previous = u;
  }
  const double error = 1 / std::sqrt(kCount);
  EXPECT_NEAR(sum / kCount, 0.5, 4 * 0.29 * error);
  EXPECT_NEAR(squares / kCount, 1.0 / 12, 4 * 0.08 * error);
  EXPECT_NEAR(lagged / kCount, 0, 4 * error / 12);
}

TEST(Random, EveryPartOfTheKeyMatters) {
  std::set<std::uint32_t> seen;
  for (const RandomKey& key : {RandomKey{1, 2, 3}, {2, 2, 3}, {1, 3, 3}, {1, 2, 4}, {2, 1, 3}}) {
    seen.insert(random_bits(stream_of(key), 0));
  }
  EXPECT_EQ(seen.size(), 5u);
}

}  // namespace
}  // namespace lgreco
