// Collectives on the fake device.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <vector>

namespace fake_device {

/// As NCCL does them: a collective is a kernel on a stream of the communicator, after the caller's
/// current stream; nothing blocks the host; wait() makes the current stream wait. The bytes travel
/// through `gloo[device]`, on the stream's thread.
c10::intrusive_ptr<c10d::Backend> collectives_over(
    std::vector<c10::intrusive_ptr<c10d::Backend>> gloo);

}  // namespace fake_device
