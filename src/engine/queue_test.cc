#include "src/engine/queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace lgreco {
namespace {

TEST(Queue, KeepsTheOrderBetweenThreads) {
  Queue<int> queue;
  std::thread producer([&] {
    for (int i = 0; i < 1000; ++i) {
      int item = i;
      queue.push(item);
    }
    queue.close();
  });
  int item = -1;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(queue.pop(item));
    EXPECT_EQ(item, i);
  }
  EXPECT_FALSE(queue.pop(item));
  producer.join();
}

TEST(Queue, MemoryCirculates) {
  Queue<std::vector<int>> queue;
  std::vector<int> item;
  item.reserve(100);
  const int* memory = item.data();
  bool seen = false;
  for (int i = 0; i < 10; ++i) {
    queue.push(item);
    ASSERT_TRUE(queue.pop(item));
    seen |= item.data() == memory;
  }
  EXPECT_TRUE(seen);
}

TEST(Queue, GivesWhatIsLeftAfterItWasClosed) {
  Queue<int> queue;
  int item = 7;
  queue.push(item);
  queue.close();
  EXPECT_TRUE(queue.pop(item));
  EXPECT_EQ(item, 7);
  EXPECT_FALSE(queue.pop(item));
}

}  // namespace
}  // namespace lgreco
