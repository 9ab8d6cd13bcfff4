// The grid on which `quantize` puts the values of one bucket, wire version 2.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "src/kernels/format.h"

namespace lgreco {

/// The header of a bucket in a payload: two bf16 that enclose zero and every value. `high_bits` has
/// no sign and `low_bits` always has one, for zero, too. No header of version 1 (low, unit) is like
/// that, so its payloads are refused.
struct QuantizeGrid {
  std::uint16_t high_bits;
  std::uint16_t low_bits;

  LGRECO_HD static constexpr QuantizeGrid enclosing(const kernels::Range& range) {
    const auto low_bits = kernels::bf16_below(std::min(range.low, 0.0f));
    // Of zeros of both signs std::max takes the first, which has none.
    return {kernels::bf16_above(std::max(0.0f, range.high)),
            static_cast<std::uint16_t>(low_bits | kSign)};
  }

  LGRECO_HD static constexpr QuantizeGrid read(const std::uint8_t* payload) {
    return {kernels::read_16(payload), kernels::read_16(payload + 2)};
  }
  LGRECO_HD constexpr void write(std::uint8_t* payload) const {
    kernels::write_16(high_bits, payload);
    kernels::write_16(low_bits, payload + 2);
  }

  /// False for what is no header of this version, and for a range that bf16 cannot hold, which
  /// cannot be sent.
  LGRECO_HD constexpr bool is_valid() const {
    return (high_bits & kSign) == 0 && (low_bits & kSign) != 0 && is_finite(high_bits) &&
           is_finite(low_bits);
  }

  /// Zero divides the codes as the roots of what lies on its sides. With values that lie around
  /// zero, far fewer of them near the ends, that loses the least. REQUIRES: is_valid().
  LGRECO_HD kernels::Grid grid(int bits) const {
    const float below = -kernels::bf16_value(low_bits), above = kernels::bf16_value(high_bits);
    const int steps = (1 << bits) - 1;
    const int steps_below = steps_under_zero(below, above, steps);
    return {bits, steps_below, below / static_cast<float>(std::max(steps_below, 1)),
            above / static_cast<float>(std::max(steps - steps_below, 1))};
  }

 private:
  static constexpr unsigned kSign = 0x8000;

  LGRECO_HD static constexpr bool is_finite(std::uint16_t bits) {
    return (bits & 0x7F80) != 0x7F80;
  }

  // At least one on either side where there are values. One bit cannot: it has the farther side.
  LGRECO_HD static int steps_under_zero(float below, float above, int steps) {
    if (below == 0) return 0;
    if (above == 0) return steps;
    const float share = 1.0f / (1.0f + std::sqrt(above / below));
    const int nearest = static_cast<int>(std::floor(static_cast<float>(steps) * share + 0.5f));
    return steps == 1 ? nearest : std::clamp(nearest, 1, steps - 1);
  }
};
static_assert(sizeof(QuantizeGrid) == 4);

}  // namespace lgreco
