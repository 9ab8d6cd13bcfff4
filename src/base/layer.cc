#include "lgreco/layer.h"

#include <xxhash.h>

#include <limits>

#include "lgreco/status.h"

namespace lgreco {

MatrixShape as_matrix(const std::vector<std::int64_t>& shape) {
  constexpr auto kLimit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  MatrixShape matrix{.rows = 1, .cols = 1};
  std::uint64_t count = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 0) {
      throw ConfigError("[layer] extent " + std::to_string(i) + " is " + std::to_string(shape[i]) +
                        "; extents cannot be negative");
    }
    const auto extent = static_cast<std::uint64_t>(shape[i]);
    if (extent != 0 && count > kLimit / extent) {
      throw ConfigError("[layer] the shape has more than 2^63 elements");
    }
    count *= extent;
    (i == 0 ? matrix.rows : matrix.cols) *= extent;
  }
  return matrix;
}

std::uint64_t LayerSpec::id() const { return XXH3_64bits(name.data(), name.size()); }

}  // namespace lgreco
