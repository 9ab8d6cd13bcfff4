// Memory of the fake devices: the host has no right to touch it.
//
// A block that is freed is reused at once by its own stream, as with CUDA's caching allocator, by
// others never; with what it was used for before, so that whoever still uses it is found. Streams
// that were recorded on it must have passed first. Reused memory is filled with NaN.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/Stream.h>

#include <string>

#include "tests/fake_device/accesses.h"

namespace fake_device {

/// Of tensors on the current device and stream.
c10::Allocator* device_allocator();

/// The memory at `pointer` is used on `stream`, too, and must not be reused before that has passed.
void record_stream(const void* pointer, const c10::Stream& stream);

/// The next submission to `stream`, which is `what`, reads or writes `tensor`, of the device or in
/// pinned memory. Reports a race when it may come too early.
void add_access(const at::Tensor& tensor, Kind kind, const c10::Stream& stream,
                const std::string& what);

/// The same elements as a tensor of the CPU, for work on a stream; other tensors as they are.
at::Tensor for_kernel(const at::Tensor& tensor);

}  // namespace fake_device
