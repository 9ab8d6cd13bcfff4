#include "src/engine/schedule.h"

#include <gtest/gtest.h>

namespace lgreco {
namespace {

TEST(Schedule, LeavesTimeToMakeAPlan) {
  const LGrecoPolicy policy{.every = 1000, .start = 2000, .window = 10};
  const PlanningSteps first = next_planning(policy, 0, 0);
  EXPECT_EQ(first.effect, 2000u);
  EXPECT_EQ(first.measure, 1950u);
  EXPECT_EQ(first.share, 1975u);
  EXPECT_EQ(first.collect, 1940u);
  EXPECT_EQ(first.number, 0u);
  EXPECT_EQ(next_planning(policy, 0, 2000).effect, 2000u);
  EXPECT_EQ(next_planning(policy, 0, 2001).effect, 3000u);
  EXPECT_EQ(next_planning(policy, 0, 2001).number, 1u);
}

TEST(Schedule, PlansNoEarlierThanCompressionStarts) {
  const LGrecoPolicy policy{.every = 10, .start = 10, .window = 2};
  EXPECT_EQ(next_planning(policy, 25, 0).effect, 25u);
  EXPECT_EQ(next_planning(policy, 25, 26).effect, 35u);
}

// Whatever the settings: steps come in their order, windows do not overlap, and what does not fit
// is left out of the lead first.
TEST(Schedule, WindowsFitBetweenPlans) {
  for (std::uint64_t every : {1, 2, 3, 19, 20, 21, 40, 100, 5000}) {
    for (std::uint64_t window : {1, 2, 10, 100}) {
      for (std::uint64_t start : {1, 5, 30, 3000}) {
        if (window > every) continue;
        const LGrecoPolicy policy{.every = every, .start = start, .window = window};
        std::uint64_t before = 0;
        for (std::uint64_t step = 0; step < start + 3 * every;) {
          const PlanningSteps at = next_planning(policy, 0, step);
          EXPECT_GE(at.collect, before);
          EXPECT_LE(at.collect, at.measure);
          EXPECT_LE(at.measure, at.share);
          EXPECT_LE(at.share, at.effect);
          EXPECT_LE(at.effect - at.measure, std::min<std::uint64_t>(50, every / 20));
          const bool all_fit = at.number > 0 || start >= window;
          EXPECT_EQ(at.measure - at.collect, all_fit ? window : start);
          before = at.effect;
          step = at.effect + 1;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lgreco
