// The words of many tokens at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/kernels/run_level.h"

namespace lgreco::kernels {

/// Runs and magnitudes less one that a quick table has words for.
constexpr std::uint32_t kQuickRuns = 64, kQuickMagnitudes = 16;
/// Entry run * kQuickMagnitudes + magnitude: the bits of a token but its sign (from bit 8 on) and
/// their number; zero where there is no such word, as in the last entry.
using QuickWords = std::uint32_t[kQuickRuns * kQuickMagnitudes + 1];

constexpr std::uint64_t kNoPair = 0xFF;

/// The words of tokens 1 and 2, of 3 and 4, and so on, one behind the other: bits (from bit 8 on)
/// and their number, signs included; kNoPair where the table lacks one of them. `pairs` has
/// (count - 1) / 2 entries. REQUIRES: count > 0.
void quick_pairs(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
                 std::uint64_t* pairs);

/// Writes pairs, two at a time, until one of them is kNoPair, two are very long, or there is little
/// room; returns how many it wrote. Leaves fewer than 8 bits in the stream. REQUIRES: there are no
/// more before.
std::size_t put_pairs(std::span<const std::uint64_t> pairs, bool backward, std::size_t room,
                      BitStream& stream);

inline std::uint64_t byte_swapped(std::uint64_t x) {
  x = (x & 0x00FF00FF00FF00FFu) << 8 | (x >> 8 & 0x00FF00FF00FF00FFu);
  x = (x & 0x0000FFFF0000FFFFu) << 16 | (x >> 16 & 0x0000FFFF0000FFFFu);
  return x << 32 | x >> 32;
}

/// The word of one token, or zero.
inline std::uint32_t quick_word(std::uint32_t run, std::int32_t level, const QuickWords& quick) {
  const auto magnitude = static_cast<std::uint32_t>(level < 0 ? -level : level) - 1;
  if (run >= kQuickRuns || magnitude >= kQuickMagnitudes) return 0;
  const std::uint32_t entry = quick[run * kQuickMagnitudes + magnitude];
  if (entry == 0) return 0;
  const std::uint32_t length = entry & 0xFF;
  return (entry | (level < 0 ? 256u << length : 0u)) + 1;
}

}  // namespace lgreco::kernels
