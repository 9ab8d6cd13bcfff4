// What every message starts and ends with, so that a wrong, damaged or foreign one is never
// decoded.
//
//   header (40 bytes)   magic, wire version, phase, flags, sender, sequence, step, plan, length
//   body
//   XXH3-64 of all that is before (8 bytes)
//
// docs/wire_format.md gives the bytes field by field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lgreco/status.h"

namespace lgreco {

inline constexpr std::uint16_t kWireVersion = 2;

/// The collectives of a step, in order. Their values are on the wire.
enum class Phase : std::uint8_t {
  scatter_a = 1,  // encoded pieces and P factors, to their owners
  gather_a = 2,   // mean P factors, to everybody
  scatter_b = 3,  // Q factors, to their owners
  gather_b = 4,   // encoded means and mean Q factors, to everybody
  commit = 5,     // did all buckets of the step succeed?
  planning = 6,   // cost tables
};

/// As in error messages and traces.
constexpr std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::scatter_a:
      return "scatter A";
    case Phase::gather_a:
      return "gather A";
    case Phase::scatter_b:
      return "scatter B";
    case Phase::gather_b:
      return "gather B";
    case Phase::commit:
      return "commit";
    case Phase::planning:
      return "planning";
  }
  return "";
}

struct Frame {
  Phase phase = Phase::scatter_a;
  /// The sender failed earlier in this step and takes part only so that nobody waits for it.
  bool failed = false;
  std::uint32_t sender = 0;
  /// Counts buckets since the start, also those of steps that were lost: a replay is never right.
  std::uint32_t sequence = 0;
  std::uint64_t step = 0;
  std::uint64_t plan = 0;  // Plan::hash()
};

inline constexpr std::size_t kHeaderBytes = 40;
inline constexpr std::size_t kFrameBytes = kHeaderBytes + 8;

/// Write header and checksum around the body that is in place.
/// REQUIRES: message.size() >= kFrameBytes.
void seal(const Frame& frame, std::span<std::byte> message);

/// Whether `message` is the one that `expected` describes; sets `failed` from its flags. `expected.
/// failed` is ignored. Total over all byte strings; the body must not be looked at unless ok.
Status check(const Frame& expected, std::span<const std::byte> message, bool& failed);

}  // namespace lgreco
