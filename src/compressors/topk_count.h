// How many values `topk` keeps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace lgreco {

/// Of `count` values encoded together; at least one. REQUIRES: count > 0.
inline std::size_t topk_count(double density, std::size_t count) {
  const double k = std::round(density * static_cast<double>(count));
  return std::min(count, std::max<std::size_t>(1, static_cast<std::size_t>(k)));
}

}  // namespace lgreco
