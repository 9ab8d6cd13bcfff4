// Saved states of every released format version, which every later version must read.
//
// state_N.state is what version N wrote for some_state(). They are never rewritten: a new version
// gets a file of its own, and here its fields.

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

TEST(GoldenState, EveryVersionIsRead) {
  const AggregatorState expected = some_state();
  for (std::uint32_t version = 1; version <= kCheckpointVersion; ++version) {
    const std::string path = LGRECO_GOLDEN "/state_" + std::to_string(version) + ".state";
    const AggregatorState state = load_state(path);
    EXPECT_EQ(serialize(state), serialize(expected)) << path;
  }
}

TEST(GoldenState, TheNewestVersionIsWritten) {
  EXPECT_EQ(serialize(some_state()),
            read(LGRECO_GOLDEN "/state_" + std::to_string(kCheckpointVersion) + ".state"));
}

}  // namespace
}  // namespace lgreco
