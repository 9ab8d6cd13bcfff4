#include "tests/fake_device/streams.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace fake_device {
namespace {

using std::chrono::microseconds;

std::atomic<microseconds> delay_on_default{microseconds(0)}, delay_on_others{microseconds(0)};
std::atomic<std::uint64_t> submission_count{0};

class Gate {
 public:
  void close(bool closed) {
    {
      const std::lock_guard lock(mutex_);
      closed_ = closed;
    }
    opened_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return !closed_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool closed_ = false;
};

Gate& gate() {
  static auto* const gate = new Gate;
  return *gate;
}

class FirstError {
 public:
  void keep() {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
  void rethrow() {
    std::exception_ptr error;
    {
      const std::lock_guard lock(mutex_);
      std::swap(error, error_);
    }
    if (error) std::rethrow_exception(error);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
};

FirstError& first_error() {
  static auto* const error = new FirstError;
  return *error;
}

/// The thread of one stream. Never freed, since nobody ends streams.
class Queue {
 public:
  explicit Queue(const StreamKey& stream)
      : random_(static_cast<std::uint64_t>(1000 * stream.first + stream.second)),
        largest_delay_(stream.second == 0 ? delay_on_default : delay_on_others) {
    std::thread([this] { run(); }).detach();
  }

  void push(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
      ++pushed_;
    }
    changed_.notify_all();
  }

  bool is_idle() {
    const std::lock_guard lock(mutex_);
    return done_ == pushed_;
  }

  void synchronize() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, target = pushed_] { return done_ >= target; });
  }

 private:
  void run() {
    at::set_num_threads(1);
    const at::NoGradGuard no_grad;
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    for (;;) {
      std::function<void()> work = pop();
      sleep();
      gate().pass();
      try {
        work();
      } catch (...) {
        first_error().keep();
      }
      work = nullptr;  // and what it holds, before anybody learns that it is done
      {
        const std::lock_guard lock(mutex_);
        ++done_;
      }
      changed_.notify_all();
    }
  }

  std::function<void()> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !queue_.empty(); });
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    return work;
  }

  void sleep() {
    const auto most = static_cast<std::uint64_t>(largest_delay_.load().count());
    if (most > 0) std::this_thread::sleep_for(microseconds(random_() % most));
  }

  std::mt19937_64 random_;
  const std::atomic<microseconds>& largest_delay_;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  std::uint64_t pushed_ = 0, done_ = 0;
};

struct Queues {
  std::mutex mutex;
  std::map<StreamKey, Queue*> by_stream;
};

Queues& queues() {
  static auto* const queues = new Queues;
  return *queues;
}

Queue& queue_of(const c10::Stream& stream) {
  const std::lock_guard lock(queues().mutex);
  Queue*& queue = queues().by_stream[key_of(stream)];
  if (queue == nullptr) queue = new Queue(key_of(stream));
  return *queue;
}

// 0 is the default stream; then come those of the pool, then new ones.
constexpr c10::StreamId kPool = 4;
std::atomic<c10::StreamId> next_of_pool{0}, next_new{kPool + 1};

thread_local c10::DeviceIndex device_of_thread = 0;
thread_local std::array<c10::StreamId, kDevices> streams_of_thread{};

c10::Stream stream_of(c10::DeviceIndex device, c10::StreamId id) {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kPrivateUse1, device), id);
}

}  // namespace

class Event::Flag {
 public:
  void set() {
    {
      const std::lock_guard lock(mutex_);
      is_set_ = true;
    }
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_set_; });
  }
  bool is_set() {
    const std::lock_guard lock(mutex_);
    return is_set_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_set_ = false;
};

void submit(const c10::Stream& stream, std::function<void()> work) {
  ++submission_count;
  begin_submission(key_of(stream));
  queue_of(stream).push(std::move(work));
}

void Event::record(const c10::Stream& stream) {
  flag_ = std::make_shared<Flag>();
  submit(stream, [flag = flag_] { flag->set(); });
  clock_ = clock_of(key_of(stream));
}

void Event::block(const c10::Stream& stream) const {
  if (!flag_) return;
  submit(stream, [flag = flag_] { flag->wait(); });
  stream_waited_for(key_of(stream), clock_);
}

bool Event::query() const {
  if (flag_ && !flag_->is_set()) return false;
  host_waited_for(clock_);
  return true;
}

void Event::synchronize() const {
  if (flag_) flag_->wait();
  host_waited_for(clock_);
  first_error().rethrow();
}

bool is_idle(const c10::Stream& stream) { return queue_of(stream).is_idle(); }

void synchronize(const c10::Stream& stream) {
  const Clock clock = clock_of(key_of(stream));
  queue_of(stream).synchronize();
  host_waited_for(clock);
  first_error().rethrow();
}

void synchronize_device(c10::DeviceIndex device) {
  std::vector<c10::Stream> streams;
  {
    const std::lock_guard lock(queues().mutex);
    for (const auto& [key, queue] : queues().by_stream) {
      if (key.first == device) streams.push_back(stream_of(device, key.second));
    }
  }
  for (const c10::Stream& stream : streams) synchronize(stream);
}

c10::DeviceIndex current_device() { return device_of_thread; }

void set_current_device(c10::DeviceIndex device) {
  TORCH_CHECK(device >= 0 && device < kDevices, "fake device: there is no device ", int{device});
  device_of_thread = device;
}

c10::Stream current_stream(c10::DeviceIndex device) {
  return stream_of(device, streams_of_thread.at(device));
}
c10::Stream current_stream() { return current_stream(current_device()); }
void set_current_stream(const c10::Stream& stream) {
  streams_of_thread.at(stream.device_index()) = stream.id();
}

c10::Stream stream_from_pool(c10::DeviceIndex device) {
  return stream_of(device, 1 + next_of_pool++ % kPool);
}
c10::Stream new_stream(c10::DeviceIndex device) { return stream_of(device, next_new++); }

void set_delays(microseconds on_default, microseconds on_others) {
  delay_on_default = on_default;
  delay_on_others = on_others;
}
void hold_back() { gate().close(true); }
void resume() { gate().close(false); }
std::uint64_t submissions() { return submission_count; }

}  // namespace fake_device
