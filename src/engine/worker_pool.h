// Threads that share the items of a loop: encoding and decoding of layers and pieces.
//
// Items are independent, so that results do not depend on the number of threads. A loop that finds
// the pool busy runs on its caller's thread alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lgreco {

class WorkerPool {
 public:
  /// `threads` in all, the caller's included: 1 makes no thread. Throws std::system_error when the
  /// machine gives no more.
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Call body(i) for every i in [0..count), on any thread and in any order; return when all have
  /// ended. Rethrows one of the exceptions. Allocates nothing. Thread-safe.
  template <typename Body>
  void for_each(std::size_t count, const Body& body) {
    run({count, &body, [](const void* context, std::size_t item) {
           (*static_cast<const Body*>(context))(item);
         }});
  }

 private:
  struct Loop {
    std::size_t count = 0;
    const void* context = nullptr;
    void (*call)(const void* context, std::size_t item) = nullptr;
  };

  void run(const Loop& loop);
  void take_items();
  void work();
  void end_threads();

  std::mutex busy_;  // held by the loop that has the threads
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
  Loop loop_;
  std::atomic<std::size_t> next_{0};
  std::size_t generation_ = 0;
  std::size_t working_ = 0;
  std::exception_ptr failure_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace lgreco
