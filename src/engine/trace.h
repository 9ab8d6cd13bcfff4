// Records what the engine's threads did when, on request.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "lgreco/trace.h"

namespace lgreco {

/// Thread-safe. Costs one look at the clock per span while it is off.
class Trace {
 public:
  void start();
  /// Stop, and hand over what was recorded.
  std::vector<TraceEvent> stop();
  void add(const TraceEvent& event);
  bool is_on() const { return on_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> on_{false};
  std::mutex mutex_;
  std::vector<TraceEvent> events_;
};

/// Records its lifetime.
class TraceSpan {
 public:
  TraceSpan(Trace& trace, const char* name, const char* track, std::uint64_t step,
            std::uint32_t bucket)
      : trace_(trace), event_{name, track, step, bucket, Clock::now(), {}} {}
  ~TraceSpan() {
    if (!trace_.is_on()) return;
    event_.end = Clock::now();
    trace_.add(event_);
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  Trace& trace_;
  TraceEvent event_;
};

}  // namespace lgreco
