// Reads the frame of a message that is being sent.
#pragma once

#include <cstring>
#include <optional>
#include <span>

#include "src/engine/frame.h"

namespace lgreco {

/// Phase and step; nothing when `message` has no frame. Offsets as in docs/wire_format.md.
inline std::optional<Frame> frame_of(std::span<const std::byte> message) {
  constexpr std::uint32_t kMagic = 0x4F43474C;
  std::uint32_t magic = 0;
  Frame frame;
  if (message.size() < kFrameBytes) return std::nullopt;
  std::memcpy(&magic, message.data(), sizeof magic);
  if (magic != kMagic) return std::nullopt;
  std::memcpy(&frame.phase, message.data() + 6, sizeof frame.phase);
  std::memcpy(&frame.step, message.data() + 16, sizeof frame.step);
  return frame;
}

}  // namespace lgreco
