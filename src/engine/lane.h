// Lane: one thread that runs tasks in the order they were handed in.
//
// All collectives of an aggregator, and every access to its state, happen on its lane. That gives
// the same order on every rank by construction, and leaves no state to lock.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

namespace lgreco {

class Lane {
 public:
  /// A task is told whether it runs, or is dropped because the lane ends. It must not throw.
  using Task = std::function<void(bool dropped)>;

  Lane();
  /// Finishes the running task, drops the waiting ones.
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// Thread-safe.
  void submit(Task task);

  /// Run `function` after everything submitted so far; return its result or rethrow.
  /// REQUIRES: not called from a task.
  template <typename Function>
  auto call(Function function) {
    using Result = decltype(function());
    auto task = std::make_shared<std::packaged_task<Result()>>(std::move(function));
    auto result = task->get_future();
    submit([task](bool dropped) {
      if (!dropped) (*task)();
    });
    return result.get();
  }

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  bool ending_ = false;
  std::thread thread_;  // last: starts when everything else exists
};

}  // namespace lgreco
