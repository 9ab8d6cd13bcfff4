// The grid on which `quantize` puts the values of one bucket.
#pragma once

#include <cmath>
#include <cstdint>

#include "src/kernels/cast.h"
#include "src/kernels/quantize.h"

namespace lgreco {

/// The header of a bucket in a payload, two bf16.
struct QuantizeGrid {
  std::uint16_t low_bits;
  std::uint16_t unit_bits;

  /// `low` is rounded down and `unit` up, so that the grid encloses every value.
  static QuantizeGrid enclosing(const kernels::Range& range, int bits) {
    const std::uint16_t low_bits = kernels::bf16_below(range.low);
    // Halved so that the width of a range over the whole of fp32 does not overflow.
    const float half_width = range.high * 0.5f - kernels::bf16_value(low_bits) * 0.5f;
    return {low_bits, kernels::bf16_above(half_width / (max_code(bits) * 0.5f))};
  }

  static float max_code(int bits) { return static_cast<float>((1 << bits) - 1); }
  float low() const { return kernels::bf16_value(low_bits); }
  float unit() const { return kernels::bf16_value(unit_bits); }
  /// False when fp32 cannot hold the grid, or when it descends. Such a bucket cannot be sent.
  bool is_valid(int bits) const {
    return std::isfinite(low() + max_code(bits) * unit()) && unit() >= 0;
  }
};
static_assert(sizeof(QuantizeGrid) == 4);

}  // namespace lgreco
