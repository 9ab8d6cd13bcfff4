#include "src/engine/lane.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace lgreco {
namespace {

TEST(Lane, RunsInOrder) {
  Lane lane;
  std::vector<int> seen;
  for (int i = 0; i < 1000; ++i) lane.submit([&seen, i](bool) { seen.push_back(i); });
  lane.call([] {});
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], i);
}

TEST(Lane, CallReturnsAndRethrows) {
  Lane lane;
  EXPECT_EQ(lane.call([] { return 7; }), 7);
  EXPECT_THROW(lane.call([]() -> int { throw std::runtime_error("x"); }), std::runtime_error);
}

TEST(Lane, EndTellsWaitingTasksThatTheyAreDropped) {
  int ran = 0, dropped = 0;
  {
    std::promise<void> started, go;
    auto lane = std::make_unique<Lane>();
    lane->submit([&](bool) {
      started.set_value();
      go.get_future().wait();
      ++ran;
    });
    for (int i = 0; i < 3; ++i) {
      lane->submit([&](bool was_dropped) { was_dropped ? ++dropped : ++ran; });
    }
    started.get_future().wait();
    std::thread ending([&] { lane.reset(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // let it ask the lane to end
    go.set_value();
    ending.join();
  }
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(dropped, 3);
}

}  // namespace
}  // namespace lgreco
