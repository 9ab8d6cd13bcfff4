// Saved states of every released format version, which every later version must read.
//
// state_N.state is what version N wrote for some_state(). They are never rewritten: a new version
// gets a file of its own, and here its fields. state_2_respelled.state is the same state as version
// 2 writes it since `rounding=nearest` is a default, which is not spelled.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "lgreco/checkpoint.h"
#include "tests/some_state.h"

namespace lgreco {
namespace {

std::vector<std::byte> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path << " is missing";
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// What a version knew of some_state().
AggregatorState as_of(std::uint32_t version) {
  AggregatorState state = some_state();
  if (version >= 2) return state;
  state.learning_rate_decayed = state.decay_is_agreed = state.unsettled = false;
  Stats& stats = state.stats;
  stats.dropped_residuals = stats.unapplied_steps = stats.large_residual_steps = 0;
  stats.plan_failure.clear();
  return state;
}

TEST(GoldenState, EveryVersionIsRead) {
  for (std::uint32_t version = 1; version <= kCheckpointVersion; ++version) {
    const std::string path = LGRECO_GOLDEN "/state_" + std::to_string(version) + ".state";
    const AggregatorState state = load_state(path);
    EXPECT_EQ(serialize(state), serialize(as_of(version))) << path;
  }
}

AggregatorState some_portable_state() {
  AggregatorState state = some_state();
  state.rank = state.size = 0;
  return state;
}

TEST(GoldenState, APortableOneIsReadAndWritten) {
  EXPECT_TRUE(load_state(LGRECO_GOLDEN "/state_2_portable.state").is_portable());
  EXPECT_EQ(serialize(some_portable_state()), read(LGRECO_GOLDEN "/state_2_portable.state"));
}

TEST(GoldenState, TheNewestVersionIsWritten) {
  EXPECT_EQ(serialize(some_state()), read(LGRECO_GOLDEN "/state_2_respelled.state"));
}

}  // namespace
}  // namespace lgreco
