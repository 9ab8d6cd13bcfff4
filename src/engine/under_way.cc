#include "src/engine/under_way.h"

#include "lgreco/status.h"

namespace lgreco {

UnderWay::Visit::Visit(UnderWay& under_way) : under_way_(under_way) {
  std::unique_lock lock(under_way_.mutex_);
  under_way_.changed_.wait(lock,
                           [this] { return under_way_.is_idle() && !under_way_.is_visited_; });
  under_way_.is_visited_ = true;
}

UnderWay::Visit::~Visit() {
  {
    const std::lock_guard lock(under_way_.mutex_);
    under_way_.is_visited_ = false;
  }
  under_way_.changed_.notify_all();
}

void UnderWay::bucket_is_submitted(bool ends_step) {
  const std::lock_guard lock(mutex_);
  step_is_open_ = !ends_step;
  ++submitted_;
}

void UnderWay::bucket_has_ended() {
  {
    const std::lock_guard lock(mutex_);
    ++ended_;
  }
  changed_.notify_all();
}

void UnderWay::wait_for(std::uint64_t buckets) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ended_ == buckets && !is_visited_; });
}

void UnderWay::wait_for_visitor() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !is_visited_; });
}

bool UnderWay::ends_within(std::chrono::seconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, time, [this] { return is_idle(); });
  return is_idle() && !step_is_open_;
}

void UnderWay::fail(const std::exception_ptr& failure) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = failure;
    failed_ = true;
  }
  changed_.notify_all();
}

std::exception_ptr UnderWay::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void UnderWay::require_between_steps() const {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (step_is_open_) {
    throw ConfigError("[aggregator] the state cannot change in the middle of a step");
  }
}

}  // namespace lgreco
