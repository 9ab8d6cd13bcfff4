#include "src/engine/worker_pool.h"

namespace lgreco {

WorkerPool::WorkerPool(int threads) {
  try {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (...) {
    end_threads();
    throw;
  }
}

WorkerPool::~WorkerPool() { end_threads(); }

void WorkerPool::end_threads() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::run(const Loop& loop) {
  std::unique_lock busy(busy_, std::defer_lock);
  if (threads_.empty() || loop.count < 2 || !busy.try_lock()) {
    for (std::size_t i = 0; i < loop.count; ++i) loop.call(loop.context, i);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    loop_ = loop;
    next_ = 0;
    failure_ = nullptr;
    working_ = threads_.size();
    ++generation_;
  }
  wake_.notify_all();
  take_items();
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this] { return working_ == 0; });
  if (failure_) std::rethrow_exception(failure_);
}

void WorkerPool::take_items() {
  for (std::size_t i = next_++; i < loop_.count; i = next_++) {
    try {
      loop_.call(loop_.context, i);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
  }
}

void WorkerPool::work() {
  std::size_t seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return ending_ || generation_ != seen; });
    if (ending_) return;
    seen = generation_;
    lock.unlock();
    take_items();
    lock.lock();
    if (--working_ == 0) finished_.notify_one();
  }
}

}  // namespace lgreco
