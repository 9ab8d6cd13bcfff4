#include "tests/fake_device/clocks.h"

#include <algorithm>
#include <mutex>

#include "tests/fake_device/pinned_memory.h"

namespace fake_device {
namespace {

struct Clocks {
  std::mutex mutex;  // of what follows
  std::map<StreamKey, Clock> of_streams;
  Clock of_host;
  std::vector<std::string> races;
};

Clocks& clocks() {
  static auto* const clocks = new Clocks;  // never freed: streams' threads outlive main()
  return *clocks;
}

}  // namespace

StreamKey key_of(const c10::Stream& stream) { return {stream.device_index(), stream.id()}; }

void Clock::merge(const Clock& other) {
  for (const auto& [stream, position] : other.positions_) {
    positions_[stream] = std::max(positions_[stream], position);
  }
}

bool Clock::covers(const StreamKey& stream, std::uint64_t position) const {
  return at(stream) >= position;
}

std::uint64_t Clock::at(const StreamKey& stream) const {
  const auto found = positions_.find(stream);
  return found == positions_.end() ? 0 : found->second;
}

std::uint64_t begin_submission(const StreamKey& stream) {
  Clocks& all = clocks();
  const std::lock_guard lock(all.mutex);
  Clock& clock = all.of_streams[stream];
  clock.merge(all.of_host);
  return clock.advance(stream);
}

Clock clock_of_next_submission(const StreamKey& stream) {
  Clocks& all = clocks();
  const std::lock_guard lock(all.mutex);
  Clock clock = all.of_streams[stream];
  clock.merge(all.of_host);
  clock.advance(stream);
  return clock;
}

Clock clock_of(const StreamKey& stream) {
  Clocks& all = clocks();
  const std::lock_guard lock(all.mutex);
  return all.of_streams[stream];
}

Clock clock_of_host() {
  Clocks& all = clocks();
  const std::lock_guard lock(all.mutex);
  return all.of_host;
}

void stream_waited_for(const StreamKey& stream, const Clock& clock) {
  Clocks& all = clocks();
  const std::lock_guard lock(all.mutex);
  all.of_streams[stream].merge(clock);
}

void host_waited_for(const Clock& clock) {
  {
    Clocks& all = clocks();
    const std::lock_guard lock(all.mutex);
    all.of_host.merge(clock);
  }
  let_host_use_pinned_memory();
}

void report_race(const std::string& what) {
  Clocks& all = clocks();
  const std::lock_guard lock(all.mutex);
  all.races.push_back(what);
}

std::vector<std::string> take_races() {
  Clocks& all = clocks();
  const std::lock_guard lock(all.mutex);
  return std::exchange(all.races, {});
}

}  // namespace fake_device
