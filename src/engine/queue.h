// A first-in-first-out queue between two threads.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

namespace lgreco {

/// Items are swapped in and out, so that the memory they own circulates: a queue that has been as
/// long as it gets allocates nothing. Thread-safe.
template <typename Item>
class Queue {
 public:
  /// Leaves an older item, or an empty one, in `item`.
  void push(Item& item) {
    {
      const std::lock_guard lock(mutex_);
      if (count_ == ring_.size()) grow();
      std::swap(ring_[(first_ + count_) % ring_.size()], item);
      ++count_;
    }
    wake_.notify_one();
  }

  /// Wait for an item; false when the queue is closed and empty.
  bool pop(Item& item) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return closed_ || count_ > 0; });
    if (count_ == 0) return false;
    std::swap(ring_[first_], item);
    first_ = (first_ + 1) % ring_.size();
    --count_;
    return true;
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    wake_.notify_all();
  }

 private:
  void grow() {
    std::vector<Item> larger(2 * ring_.size() + 4);
    for (std::size_t i = 0; i < count_; ++i) {
      std::swap(larger[i], ring_[(first_ + i) % ring_.size()]);
    }
    ring_ = std::move(larger);
    first_ = 0;
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Item> ring_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  bool closed_ = false;
};

}  // namespace lgreco
