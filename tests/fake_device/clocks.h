// Happens-before: what each stream, and the host, have waited for.
//
// A stream's clock says up to which submission of every other stream it has waited; the host's,
// with what it has synchronised. Whoever touches memory must come after the conflicting accesses by
// these clocks, however the threads happen to run: a forgotten wait is found always, and by its
// name. The host counts as one, all its threads together.
#pragma once

#include <c10/core/Stream.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace fake_device {

using StreamKey = std::pair<c10::DeviceIndex, c10::StreamId>;

StreamKey key_of(const c10::Stream& stream);

class Clock {
 public:
  void merge(const Clock& other);
  bool covers(const StreamKey& stream, std::uint64_t position) const;
  std::uint64_t advance(const StreamKey& stream) { return ++positions_[stream]; }
  std::uint64_t at(const StreamKey& stream) const;

 private:
  std::map<StreamKey, std::uint64_t> positions_;
};

// All of the following are thread-safe.

/// A submission of the host to a stream begins: its position. It comes after what the host knows.
std::uint64_t begin_submission(const StreamKey& stream);
/// What the next submission to the stream will come after, and its own position in it.
Clock clock_of_next_submission(const StreamKey& stream);
Clock clock_of(const StreamKey& stream);
Clock clock_of_host();
void stream_waited_for(const StreamKey& stream, const Clock& clock);
/// Memory that this makes readable by the host becomes so.
void host_waited_for(const Clock& clock);

/// Something was done without waiting for what it needs.
void report_race(const std::string& what);
/// Those reported since the last call.
std::vector<std::string> take_races();

}  // namespace fake_device
