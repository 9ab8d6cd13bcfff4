// Streams: threads that do later what the host submits now.
#pragma once

#include <c10/core/Stream.h>

#include <chrono>
#include <functional>
#include <memory>

#include "tests/fake_device/clocks.h"

namespace fake_device {

constexpr c10::DeviceIndex kDevices = 2;

/// Runs `work` on the thread of `stream`, after what was submitted before and, now and then, a
/// delay. What it throws is thrown by the next call that synchronises.
void submit(const c10::Stream& stream, std::function<void()> work);

/// An event: set by a stream when it gets there.
class Event {
 public:
  void record(const c10::Stream& stream);
  /// Nothing, when it was never recorded.
  void block(const c10::Stream& stream) const;
  bool query() const;
  void synchronize() const;

 private:
  class Flag;
  std::shared_ptr<Flag> flag_;  // of the last record
  Clock clock_;
};

bool is_idle(const c10::Stream& stream);
void synchronize(const c10::Stream& stream);
void synchronize_device(c10::DeviceIndex device);

// The current device and streams of the calling thread.
c10::DeviceIndex current_device();
void set_current_device(c10::DeviceIndex device);
c10::Stream current_stream(c10::DeviceIndex device);
c10::Stream current_stream();
void set_current_stream(const c10::Stream& stream);

c10::Stream stream_from_pool(c10::DeviceIndex device);
c10::Stream new_stream(c10::DeviceIndex device);

/// Before each work: up to so long, at random; on default streams and on all others.
void set_delays(std::chrono::microseconds on_default, std::chrono::microseconds on_others);
/// The newest submission so far to any stream is the last that is done, until resume().
void hold_back();
void resume();
std::uint64_t submissions();

}  // namespace fake_device
