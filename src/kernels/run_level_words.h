// The words of many tokens at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/kernels/run_level.h"

namespace lgreco::kernels {

/// Runs, and levels from -kQuickLevels to kQuickLevels, that a quick table has words for.
constexpr std::uint32_t kQuickRuns = 64, kQuickLevels = 16;
constexpr std::uint32_t kQuickRow = 2 * kQuickLevels;
/// The bits of a word, extra ones and sign included (from bit 8 on) and their number: 25 at most,
/// or kNoWord where there is no word, as in the last entry.
using QuickWords = std::uint32_t[kQuickRuns * kQuickRow + 1];
constexpr std::uint32_t kNoWord = 60;
constexpr std::size_t quick_index(std::uint32_t run, std::int32_t level) {
  const auto column = static_cast<std::uint32_t>(level) + kQuickLevels;
  const bool is_quick = run < kQuickRuns && column < kQuickRow;
  return is_quick ? run * kQuickRow + column : kQuickRuns * kQuickRow;
}

/// The words of four tokens, one behind the other.
struct WordGroups {
  std::uint64_t bits[kLevelBlock / 4];
  std::uint64_t length[kLevelBlock / 4];
};
constexpr std::size_t kGroup = 4;
constexpr std::uint64_t kMostGroupBits = 56;

/// Those of tokens 1 to 4, 5 to 8, and so on; returns how many groups there are. A length above
/// kMostGroupBits says that the bits are not them. REQUIRES: 0 < count <= kLevelBlock.
std::size_t word_groups(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
                        WordGroups& groups);

/// Writes groups from the first one on until the end, or one that is too long, or there is little
/// room; returns which that is. Leaves fewer than 8 bits in the stream. REQUIRES: there are no more
/// before.
std::size_t put_groups(const WordGroups& groups, std::size_t first, std::size_t end, bool backward,
                       std::size_t room, BitStream& stream);

inline std::uint64_t byte_swapped(std::uint64_t x) {
  x = (x & 0x00FF00FF00FF00FFu) << 8 | (x >> 8 & 0x00FF00FF00FF00FFu);
  x = (x & 0x0000FFFF0000FFFFu) << 16 | (x >> 16 & 0x0000FFFF0000FFFFu);
  return x << 32 | x >> 32;
}

}  // namespace lgreco::kernels
