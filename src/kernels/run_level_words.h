// The words of many tokens at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/kernels/run_level.h"

namespace lgreco::kernels {

/// Runs and magnitudes less one that a quick table has words for.
constexpr std::uint32_t kQuickRuns = 64, kQuickMagnitudes = 16;
/// Entry run * kQuickMagnitudes + magnitude: the bits of a token but its sign (from bit 8 on) and
/// their number; zero where there is no such word, as in the last entry.
using QuickWords = std::uint32_t[kQuickRuns * kQuickMagnitudes + 1];

/// The same with the sign, for each token but the first, whose run the caller knows; zero where the
/// table has none. `words` has an entry for each token, of which the first is not written.
void quick_words(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
                 std::uint32_t* words);

/// The word of one token.
inline std::uint32_t quick_word(std::uint32_t run, std::int32_t level, const QuickWords& quick) {
  const auto magnitude = static_cast<std::uint32_t>(level < 0 ? -level : level) - 1;
  if (run >= kQuickRuns || magnitude >= kQuickMagnitudes) return 0;
  const std::uint32_t entry = quick[run * kQuickMagnitudes + magnitude];
  if (entry == 0) return 0;
  const std::uint32_t length = entry & 0xFF;
  return (entry | (level < 0 ? 256u << length : 0u)) + 1;
}

}  // namespace lgreco::kernels
