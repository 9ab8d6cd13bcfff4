#include "src/kernels/gram.h"

#include <algorithm>
#include <vector>

#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/gram.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

// Rows of the smaller side that are packed together.
#ifndef LGRECO_GRAM_STRIP
#define LGRECO_GRAM_STRIP 16
#endif

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// out += left^T right for two strips: `depth` runs of 16 values each; out is 16 x 16, its rows
// `stride` apart.
void AddStripProduct(const double* left, const double* right, std::size_t depth, double* out,
                     std::size_t stride) {
  constexpr std::size_t kStrip = LGRECO_GRAM_STRIP;
  const hn::CappedTag<double, kStrip / 2> d;
  constexpr std::size_t kLanes = hn::MaxLanes(d);
  // As many sums as registers hold.
  constexpr std::size_t kRows = kLanes == kStrip / 2 ? 8 : 4;
  for (std::size_t column = 0; column < kStrip; column += 2 * kLanes) {
    for (std::size_t row = 0; row < kStrip; row += kRows) {
      hn::Vec<decltype(d)> sums[kRows][2];
      for (auto& pair : sums) pair[0] = pair[1] = hn::Zero(d);
      for (std::size_t j = 0; j < depth; ++j) {
        const auto first = hn::LoadU(d, right + j * kStrip + column);
        const auto second = hn::LoadU(d, right + j * kStrip + column + kLanes);
        for (std::size_t r = 0; r < kRows; ++r) {
          const auto factor = hn::Set(d, left[j * kStrip + row + r]);
          sums[r][0] = hn::MulAdd(factor, first, sums[r][0]);
          sums[r][1] = hn::MulAdd(factor, second, sums[r][1]);
        }
      }
      for (std::size_t r = 0; r < kRows; ++r) {
        double* at = out + (row + r) * stride + column;
        hn::StoreU(hn::Add(hn::LoadU(d, at), sums[r][0]), d, at);
        hn::StoreU(hn::Add(hn::LoadU(d, at + kLanes), sums[r][1]), d, at + kLanes);
      }
    }
  }
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {
namespace {

HWY_EXPORT(AddStripProduct);

constexpr std::size_t kStrip = LGRECO_GRAM_STRIP;

// A view in which the smaller side comes first, whichever of the two it is.
struct Sides {
  const float* matrix;
  std::size_t small;
  std::size_t large;
  std::size_t small_step;
  std::size_t large_step;
};

// The values of one strip at large = [first, first + depth); what is beyond the matrix is zero.
void pack(const Sides& sides, std::size_t strip, std::size_t first, std::size_t depth,
          double* packed) {
  const std::size_t begin = strip * kStrip;
  const std::size_t count = std::min(kStrip, sides.small - begin);
  for (std::size_t j = 0; j < depth; ++j) {
    const float* at = sides.matrix + begin * sides.small_step + (first + j) * sides.large_step;
    for (std::size_t i = 0; i < count; ++i) {
      packed[j * kStrip + i] = static_cast<double>(at[i * sides.small_step]);
    }
    std::fill_n(packed + j * kStrip + count, kStrip - count, 0.0);
  }
}

}  // namespace

void gram(const float* matrix, std::size_t rows, std::size_t cols, double* gram) {
  const Sides sides =
      rows <= cols ? Sides{matrix, rows, cols, cols, 1} : Sides{matrix, cols, rows, 1, cols};
  const std::size_t strips = (sides.small + kStrip - 1) / kStrip;
  const std::size_t stride = strips * kStrip;
  std::vector<double> packed(stride * kGramDepth), sums(stride * stride, 0.0);
  for (std::size_t first = 0; first < sides.large; first += kGramDepth) {
    const std::size_t depth = std::min(kGramDepth, sides.large - first);
    const auto strip_at = [&](std::size_t strip) {
      return packed.data() + strip * kStrip * kGramDepth;
    };
    for (std::size_t i = 0; i < strips; ++i) {
      pack(sides, i, first, depth, strip_at(i));
      for (std::size_t k = 0; k <= i; ++k) {
        HWY_DYNAMIC_DISPATCH(AddStripProduct)
        (strip_at(i), strip_at(k), depth, sums.data() + i * kStrip * stride + k * kStrip, stride);
      }
    }
  }
  for (std::size_t i = 0; i < sides.small; ++i) {
    for (std::size_t k = 0; k <= i; ++k) {
      gram[i * sides.small + k] = gram[k * sides.small + i] = sums[i * stride + k];
    }
  }
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
