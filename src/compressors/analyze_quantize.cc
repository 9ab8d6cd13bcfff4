// All bit widths in one pass over the layer: a bucket's moments are found once, and while the
// bucket is in the cache every width adds what its grid loses. No bits are packed and no numbers
// drawn.

#include <algorithm>
#include <limits>

#include "src/compressors/analyze.h"
#include "src/compressors/bucket_grid.h"
#include "src/compressors/quantize_grid.h"
#include "src/kernels/rounding_loss.h"

namespace lgreco {
namespace {

double squared_loss(std::span<const float> values, const kernels::Grid& grid) {
  const double unit = static_cast<double>(std::max(grid.unit_below, grid.unit_above));
  if (unit == 0) return 0;  // so are all values
  const double loss = kernels::sum_of_losses(values.size(), [&](std::size_t at, std::size_t count) {
    return kernels::rounding_loss(values.data() + at, count, grid, true);
  });
  return loss * unit * unit;
}

double stochastic_loss(std::span<const float> bucket, int bits) {
  const auto header = QuantizeGrid::enclosing(kernels::range_of(bucket.data(), bucket.size()));
  return header.is_valid() ? squared_loss(bucket, header.grid(bits))
                           : std::numeric_limits<double>::infinity();
}

void add_bucket(std::span<const float> bucket, std::span<const Level> levels,
                std::span<const std::size_t> members, std::span<double> sums) {
  kernels::Moments moments;
  kernels::moments_of(bucket.data(), bucket.size(), moments);  // true: values are finite
  for (std::size_t member : members) {
    const int bits = static_cast<int>(levels[member].parameter);
    sums[member] += levels[member].rounding == Rounding::stochastic
                        ? stochastic_loss(bucket, bits)
                        : BucketGrid::of(moments, bucket.data(), bucket.size(), bits)
                              .squared_loss(bucket.data(), bucket.size());
  }
}

void add_piece(std::span<const float> values, std::span<const Level> levels,
               std::span<double> sums) {
  std::vector<bool> done(levels.size(), false);
  for (std::size_t first = 0; first < levels.size(); ++first) {
    if (done[first]) continue;
    const std::size_t length = levels[first].bucket;
    std::vector<std::size_t> members;  // levels that share the buckets
    for (std::size_t i = first; i < levels.size(); ++i) {
      if (levels[i].bucket != length) continue;
      members.push_back(i);
      done[i] = true;
    }
    for (std::size_t at = 0; at < values.size(); at += length) {
      add_bucket(values.subspan(at, std::min(length, values.size() - at)), levels, members, sums);
    }
  }
}

}  // namespace

void add_quantize_losses(const LayerValues& layer, std::span<const Level> levels,
                         std::span<double> sums) {
  for_each_piece(layer, [&](std::span<const float> piece) { add_piece(piece, levels, sums); });
}

}  // namespace lgreco
