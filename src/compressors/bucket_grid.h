// The grid on which `quantize` puts the values of one bucket, to nearest.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

#include "src/compressors/choose_grid.h"
#include "src/kernels/format.h"
#include "src/kernels/moments.h"
#include "src/kernels/quantize.h"

namespace lgreco {

/// A Lloyd-Max grid; with one bit and a zero, nothing but zero and `scale`, or zero and `-scale`.
/// Scale 0: all values are zero. Where it takes a table, that is of all levels.
class BucketGrid {
 public:
  /// That which loses little of `count` values with these moments. Has a zero where there are
  /// zeros. `range_of()` gives their range, where it is needed.
  template <typename RangeOf>
  LGRECO_HD static BucketGrid of(const kernels::Moments& moments, std::size_t count, int bits,
                                 const kernels::LloydMaxTable& table, const RangeOf& range_of) {
    if (moments.count == 0) return BucketGrid({bits, kernels::Law::normal, false, 0});
    const bool has_zero = moments.count < count || is_better_with_zero(moments, bits);
    if (bits > 1 || !has_zero) return BucketGrid(choose_grid(moments, has_zero, bits, table));
    // One side of the best grid of three levels.
    const kernels::LloydMaxGrid both = choose_grid(moments, has_zero, 2, table);
    const float farthest = kernels::largest_of(both, table.levels(both));
    BucketGrid grid(
        within_fp32({bits, kernels::Law::normal, true, rounded_scale(farthest)}, table));
    const kernels::Range range = range_of();
    grid.is_negative_ = -range.low > range.high;
    return grid;
  }
  /// The same, of values on the host.
  static BucketGrid of(const kernels::Moments& moments, const float* values, std::size_t count,
                       int bits);

  /// The grid of a header; nothing where it says what no encoder does.
  LGRECO_HD static constexpr std::optional<BucketGrid> read(std::uint16_t header, int bits,
                                                            const kernels::LloydMaxTable& table) {
    BucketGrid grid(grid_of(header, bits));
    if (bits == 1) {  // in the place of the law is the side
      const unsigned side = header & GridHeader::kLawBits;
      if (side > (grid.levels_.has_zero ? 1 : 0)) return {};
      grid.is_negative_ = side == 1;
      grid.levels_.law = kernels::Law::normal;
    }
    if (!grid.is_valid(table)) return {};
    return grid;
  }
  LGRECO_HD constexpr std::uint16_t header() const {
    return static_cast<std::uint16_t>(header_of(levels_) | (is_negative_ ? 1u : 0u));
  }
  /// False when a value of it would overflow, so that it cannot be sent.
  LGRECO_HD constexpr bool is_valid(const kernels::LloydMaxTable& table) const {
    constexpr float kMost = std::numeric_limits<float>::max();
    return levels_.scale <= kMost && kernels::largest_of(levels_, table.levels(levels_)) <= kMost;
  }

  /// REQUIRES: is_valid(); so does all that follows.
  LGRECO_HD std::uint8_t code_of(float value, const kernels::LloydMaxTable& table) const {
    if (levels_.scale == 0) return 0;
    if (is_one_sided()) return kernels::code_of(value, one_side(), nullptr, 0);
    return kernels::code_of(value, levels_, table.levels(levels_));
  }
  LGRECO_HD float value_of(unsigned code, const kernels::LloydMaxTable& table) const {
    if (is_one_sided()) return kernels::value_of(code, one_side());
    return kernels::value_of(code, levels_, table.levels(levels_));
  }

  /// As the kernels; on the host.
  void pack(const float* values, std::size_t count, std::uint8_t* packed) const;
  void pack_keep_loss(float* values, std::size_t count, std::uint8_t* packed,
                      const kernels::Upcoming& upcoming) const;
  void unpack_add(const std::uint8_t* packed, std::size_t count, float* accumulator) const;
  /// The squared error; infinite when the grid is not valid.
  double squared_loss(const float* values, std::size_t count) const;

 private:
  LGRECO_HD constexpr explicit BucketGrid(const kernels::LloydMaxGrid& levels) : levels_(levels) {}

  // Of so few values that matter that the others do better at zero.
  LGRECO_HD static bool is_better_with_zero(const kernels::Moments& moments, int bits) {
    if (bits > 2) return false;
    const auto count = static_cast<float>(moments.count);
    const float ratio = bits == 1 ? .45f : .42f;  // of mean and rms
    return moments.sum < ratio * std::sqrt(moments.sum_squares * count);
  }

  LGRECO_HD constexpr bool is_one_sided() const { return levels_.bits == 1 && levels_.has_zero; }
  LGRECO_HD constexpr kernels::Grid one_side() const {
    return {1, is_negative_ ? 1 : 0, levels_.scale, levels_.scale};
  }

  kernels::LloydMaxGrid levels_;
  bool is_negative_ = false;  // the side, where there is one
};

}  // namespace lgreco
