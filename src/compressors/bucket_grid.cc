#include "src/compressors/bucket_grid.h"

#include <algorithm>
#include <limits>

#include "src/kernels/lloyd_max.h"
#include "src/kernels/lloyd_max_table.h"
#include "src/kernels/rounding_loss.h"

namespace lgreco {

BucketGrid BucketGrid::of(const kernels::Moments& moments, const float* values, std::size_t count,
                          int bits) {
  return of(moments, count, bits, kernels::lloyd_max_table(),
            [&] { return kernels::range_of(values, count); });
}

void BucketGrid::pack(const float* values, std::size_t count, std::uint8_t* packed) const {
  if (levels_.scale == 0) {
    std::fill_n(packed, kernels::packed_bytes(count, levels_.bits), std::uint8_t{0});
  } else if (is_one_sided()) {
    kernels::quantize_pack(values, count, one_side(), nullptr, 0, packed);
  } else {
    kernels::lloyd_max_pack(values, count, levels_, packed);
  }
}

void BucketGrid::pack_keep_loss(float* values, std::size_t count, std::uint8_t* packed,
                                const kernels::Upcoming& upcoming) const {
  if (levels_.scale == 0) {
    pack(values, count, packed);
  } else if (is_one_sided()) {
    kernels::quantize_pack_keep_loss(values, count, one_side(), nullptr, 0, packed, upcoming);
  } else {
    kernels::lloyd_max_pack_keep_loss(values, count, levels_, packed, upcoming);
  }
}

void BucketGrid::unpack_add(const std::uint8_t* packed, std::size_t count,
                            float* accumulator) const {
  if (is_one_sided()) {
    kernels::unpack_dequantize_add(packed, count, one_side(), accumulator);
  } else {
    kernels::lloyd_max_unpack_add(packed, count, levels_, accumulator);
  }
}

double BucketGrid::squared_loss(const float* values, std::size_t count) const {
  if (levels_.scale == 0) return 0;
  if (!is_valid(kernels::lloyd_max_table())) return std::numeric_limits<double>::infinity();
  const double loss = kernels::sum_of_losses(count, [&](std::size_t at, std::size_t length) {
    return is_one_sided() ? kernels::rounding_loss(values + at, length, one_side(), false)
                          : kernels::lloyd_max_loss(values + at, length, levels_);
  });
  const auto scale = static_cast<double>(levels_.scale);
  return loss * scale * scale;
}

}  // namespace lgreco
