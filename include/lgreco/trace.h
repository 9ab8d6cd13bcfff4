// What a trace records.
#pragma once

#include <cstdint>

#include "lgreco/communicator.h"

namespace lgreco {

/// What one of the engine's threads did.
struct TraceEvent {
  const char* name;   // such as "encode" or "scatter A"
  const char* track;  // "backward", "encode", "lane A", "lane B", "planner"
  std::uint64_t step;
  std::uint32_t bucket;
  Clock::time_point begin, end;
};

}  // namespace lgreco
