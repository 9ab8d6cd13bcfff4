// The values that `topk` keeps, in few bits: a sign, and how far a magnitude exceeds the least one.
//
// Payload: the base, a bf16 that is at most every magnitude, then for each block of 256 values a
// header that says a grid (choose_grid.h), whose magnitudes begin at the base, and the codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "src/kernels/lloyd_max.h"

namespace lgreco {

class TopKValues {
 public:
  static constexpr std::size_t kBlock = 256;

  /// Of the blocks of `count` values, of which only the last may be short; `bits` is 2 to 8.
  static std::size_t bytes(std::size_t count, int bits);

  /// For magnitudes of at least `least`.
  TopKValues(int bits, float least);
  /// That which `header` says.
  static TopKValues read(const std::byte* header, int bits);
  static constexpr std::size_t kHeader = sizeof(std::uint16_t);
  void write(std::byte* header) const;
  /// False when no encoder writes it.
  bool is_valid() const;

  /// Writes bytes(values.size(), bits) bytes, and leaves in `values` what they say. False when that
  /// overflows.
  bool encode(std::span<float> values, std::byte* out) const;
  /// The squared error of encode(), without it; infinite where that overflows.
  double squared_loss(std::span<const float> values) const;
  /// The inverse, of one block: REQUIRES: values.size() <= kBlock. False when a value is not
  /// finite, or the block is none that encode() writes.
  bool decode(const std::byte* in, std::span<float> values) const;

 private:
  bool encode_block(std::span<float> values, std::byte* out) const;
  /// Nothing when a magnitude overflows. Scale 0: all of them are the base.
  std::optional<kernels::LloydMaxGrid> grid_of_block(std::span<const float> values) const;

  int bits_;
  std::uint16_t base_;  // bf16
};

}  // namespace lgreco
