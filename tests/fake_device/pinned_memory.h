// Host memory that the device copies to and from by itself.
#pragma once

#include <c10/core/Allocator.h>

#include "tests/fake_device/accesses.h"

namespace fake_device {

bool is_pinned(const void* pointer);
/// The same memory for a kernel. REQUIRES: is_pinned(pointer).
void* pinned_for_kernel(const void* pointer);

/// The next submission to `stream` copies from or to it. Until the host has waited for that, it
/// must not write, or touch it at all: it loses the right to.
void add_pinned_access(const void* pointer, const StreamKey& stream, Kind kind);

/// Gives the host the rights that it has waited for. Thread-safe, as all of these.
void let_host_use_pinned_memory();

/// Pinning fails from now on, or works again.
void set_pinning_fails(bool fails);

c10::Allocator* pinned_allocator();

}  // namespace fake_device
