// A layer: one parameter tensor, identified by its name and by nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lgreco/dtype.h"

namespace lgreco {

/// A layer seen as a matrix, row-major: rows = shape[0], cols = the product of the rest.
struct MatrixShape {
  std::size_t rows = 0;
  std::size_t cols = 0;

  std::size_t count() const { return rows * cols; }
  bool operator==(const MatrixShape&) const = default;
};

/// Vectors and scalars become a matrix of one column.
/// Throws ConfigError on a negative extent or when the element count exceeds 2^63.
MatrixShape as_matrix(const std::vector<std::int64_t>& shape);

struct LayerSpec {
  std::string name;
  std::vector<std::int64_t> shape;
  DType dtype = DType::f32;

  MatrixShape matrix() const { return as_matrix(shape); }
  std::size_t count() const { return matrix().count(); }
  /// XXH3-64 of the name: the layer's part of every RandomKey, and of what frames are checked by.
  std::uint64_t id() const;
  bool operator==(const LayerSpec&) const = default;
};

}  // namespace lgreco
