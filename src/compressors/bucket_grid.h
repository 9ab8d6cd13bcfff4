// Which Lloyd-Max grid is the best for some values, how its 2 bytes in a payload say it, and the
// grid on which `quantize` puts the values of one bucket, to nearest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "src/kernels/lloyd_max.h"
#include "src/kernels/moments.h"

namespace lgreco {

/// The grid that loses little of values with these moments. REQUIRES: moments.count > 0; 2 bits at
/// least when it is to have a zero.
kernels::LloydMaxGrid choose_grid(const kernels::Moments& moments, bool has_zero, int bits);

/// Law, scale and zero of a grid made by choose_grid().
std::uint16_t header_of(const kernels::LloydMaxGrid& grid);
/// The inverse, of any header; its values may be infinite.
kernels::LloydMaxGrid grid_of(std::uint16_t header, int bits);

/// A Lloyd-Max grid; with one bit and a zero, nothing but zero and `scale`, or zero and `-scale`.
/// Scale 0: all values are zero.
class BucketGrid {
 public:
  /// That which loses little of values with these moments. Has a zero where there are zeros.
  static BucketGrid of(const kernels::Moments& moments, const float* values, std::size_t count,
                       int bits);

  /// The grid of a header; nothing where it says what no encoder does.
  static std::optional<BucketGrid> read(std::uint16_t header, int bits);
  std::uint16_t header() const;
  /// False when a value of it would overflow, so that it cannot be sent.
  bool is_valid() const;

  /// As the kernels; REQUIRES: is_valid().
  void pack(const float* values, std::size_t count, std::uint8_t* packed) const;
  void pack_keep_loss(float* values, std::size_t count, std::uint8_t* packed,
                      const kernels::Upcoming& upcoming) const;
  void unpack_add(const std::uint8_t* packed, std::size_t count, float* accumulator) const;
  /// The squared error; infinite when the grid is not valid.
  double squared_loss(const float* values, std::size_t count) const;

 private:
  explicit BucketGrid(const kernels::LloydMaxGrid& levels) : levels_(levels) {}

  bool is_one_sided() const { return levels_.bits == 1 && levels_.has_zero; }
  kernels::Grid one_side() const;

  kernels::LloydMaxGrid levels_;
  bool is_negative_ = false;  // the side, where there is one
};

}  // namespace lgreco
