// Writing a state piece by piece, for who does not want all of its bytes in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "lgreco/state.h"

namespace lgreco {

/// Hand the bytes that serialize(state) would return to `sink`, in order; returns their checksum.
/// Throws as serialize does, then before the first call of `sink`.
std::uint64_t write_state(const AggregatorState& state,
                          const std::function<void(std::span<const std::byte>)>& sink);

}  // namespace lgreco
