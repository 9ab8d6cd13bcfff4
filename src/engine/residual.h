// Error feedback of one layer: what this rank has not sent yet.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lgreco/compressor.h"
#include "lgreco/dtype.h"

namespace lgreco {

/// Kept in fp32, or in bf16 with stochastic rounding (half the memory; what the rounding loses is
/// lost, but zero on average). No memory until something is first kept.
class Residual {
 public:
  Residual() = default;
  explicit Residual(DType dtype) : dtype_(dtype) {}

  /// Forget everything and give the memory back.
  void clear();
  /// Take the memory for `count` values, so that keeping them cannot fail.
  void reserve(std::size_t count);

  /// Forget everything when some value is beyond `largest` in magnitude; whether that was so.
  bool clear_beyond(float largest);

  /// What add_to() would add, as far as it can be read in fp32; empty for one kept in bf16.
  std::span<const float> floats() const { return floats_; }
  /// values += residual. REQUIRES: empty, or values.size() is the layer's.
  void add_to(std::span<float> values) const;
  /// residual = values. `key` draws the rounding of bf16.
  void keep(std::span<const float> values, const RandomKey& key);
  /// Memory of `count` values where a residual in fp32 is to be written; empty for one in bf16.
  std::span<float> overwrite(std::size_t count);
  /// residual *= factor.
  void scale(float factor);

  double sum_squares() const;
  float max_magnitude() const;
  std::vector<float> to_floats() const;
  /// Exact for values that to_floats() gave.
  void assign(std::span<const float> values);

 private:
  DType dtype_ = DType::f32;
  std::vector<float> floats_;
  std::vector<std::uint16_t> halves_;
};

}  // namespace lgreco
