#include "src/engine/trace.h"

namespace lgreco {

void Trace::start() {
  const std::lock_guard lock(mutex_);
  events_.clear();
  on_ = true;
}

std::vector<TraceEvent> Trace::stop() {
  const std::lock_guard lock(mutex_);
  on_ = false;
  return std::move(events_);
}

void Trace::add(const TraceEvent& event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(event);
}

}  // namespace lgreco
