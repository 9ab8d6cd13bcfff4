#include "src/engine/worker_pool.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace lgreco {
namespace {

class WorkerPoolTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Threads, WorkerPoolTest, testing::Values(1, 2, 5));

TEST_P(WorkerPoolTest, DoesEveryItemOnce) {
  WorkerPool pool(GetParam());
  for (std::size_t count : {0, 1, 2, 1000}) {
    std::vector<int> done(count, 0);
    pool.for_each(count, [&](std::size_t i) { ++done[i]; });
    for (int times : done) ASSERT_EQ(times, 1);
  }
}

TEST_P(WorkerPoolTest, RethrowsAndGoesOn) {
  WorkerPool pool(GetParam());
  const auto one_throws = [&] {
    pool.for_each(100, [](std::size_t i) {
      if (i == 50) throw std::runtime_error("50");
    });
  };
  EXPECT_THROW(one_throws(), std::runtime_error);
  std::atomic<int> sum = 0;
  pool.for_each(10, [&](std::size_t i) { sum += static_cast<int>(i); });
  EXPECT_EQ(sum, 45);
}

TEST_P(WorkerPoolTest, LoopsOfSeveralThreadsDoNotMix) {
  WorkerPool pool(GetParam());
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&pool] {
      for (int round = 0; round < 100; ++round) {
        std::vector<int> done(17, 0);
        pool.for_each(done.size(), [&](std::size_t i) { ++done[i]; });
        for (int times : done) ASSERT_EQ(times, 1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace lgreco
