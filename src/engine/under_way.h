// How many buckets are under way, whether they have failed, and who may look at the state
// meanwhile.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>

namespace lgreco {

/// Thread-safe.
class UnderWay {
 public:
  /// Of somebody who needs the state to himself. Begins when no bucket is under way; no bucket
  /// begins before it ends. No lock is held meanwhile, so that a collective in it can be given up.
  class Visit {
   public:
    explicit Visit(UnderWay& under_way);
    ~Visit();
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    UnderWay& under_way_;
  };

  void bucket_is_submitted(bool ends_step);
  void bucket_has_ended();
  /// Wait until `buckets` have ended and nobody visits.
  void wait_for(std::uint64_t buckets);
  /// Wait until nobody visits. REQUIRES: a bucket is submitted that has not ended, so that nobody
  /// else can begin to.
  void wait_for_visitor();
  /// Every submitted bucket ends within `time`, and with it its step.
  bool ends_within(std::chrono::seconds time);

  /// The first failure is the cause of others. From here on nothing works.
  void fail(const std::exception_ptr& failure);
  bool has_failed() const { return failed_; }
  std::exception_ptr failure() const;

  /// Throws the failure, and ConfigError inside of a step.
  void require_between_steps() const;

 private:
  bool is_idle() const { return ended_ == submitted_; }

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // one of the following
  std::uint64_t submitted_ = 0;
  std::uint64_t ended_ = 0;
  bool step_is_open_ = false;
  bool is_visited_ = false;
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};  // failure_ is set
};

}  // namespace lgreco
