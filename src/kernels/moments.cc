#include "src/kernels/moments.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "src/kernels/elementwise.h"
#include "src/kernels/scalar.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/moments.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Sixteen = hn::CappedTag<float, 16>;

template <bool kAdd, typename Float>
Moments AddAndSum(const float* addend, std::size_t count, Float* values, float unit) {
  const Sixteen d;
  const hn::RebindToSigned<Sixteen> di;
  constexpr std::size_t kLanes = hn::MaxLanes(d);
  constexpr std::size_t kVectors = 16 / kLanes;
  hn::Vec<Sixteen> largest[kVectors], sums[kVectors], squares[kVectors];
  hn::Vec<hn::RebindToSigned<Sixteen>> zeros[kVectors];
  for (std::size_t v = 0; v < kVectors; ++v) {
    largest[v] = sums[v] = squares[v] = hn::Zero(d);
    zeros[v] = hn::Zero(di);
  }
  const float per_unit = 1 / unit;
  const auto scale = hn::Set(d, per_unit);
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::size_t at = i + v * kLanes;
      auto value = hn::LoadU(d, values + at);
      if constexpr (kAdd) {
        value = hn::Add(value, hn::LoadU(d, addend + at));
        hn::StoreU(value, d, values + at);
      }
      const auto magnitude = hn::Mul(hn::Abs(value), scale);
      largest[v] = hn::Max(largest[v], magnitude);
      sums[v] = hn::Add(sums[v], magnitude);
      squares[v] = hn::Add(squares[v], hn::Mul(magnitude, magnitude));
      // Minus one where the mask is set.
      zeros[v] =
          hn::Add(zeros[v], hn::VecFromMask(di, hn::RebindMask(di, hn::Eq(value, hn::Zero(d)))));
    }
  }
  float largest_of[16], sum_of[16], squares_of[16];
  std::int32_t zeros_of[16];
  for (std::size_t v = 0; v < kVectors; ++v) {
    hn::StoreU(largest[v], d, largest_of + v * kLanes);
    hn::StoreU(sums[v], d, sum_of + v * kLanes);
    hn::StoreU(squares[v], d, squares_of + v * kLanes);
    hn::StoreU(zeros[v], di, zeros_of + v * kLanes);
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    if constexpr (kAdd) values[i] += addend[i];
    const float magnitude = std::abs(values[i]) * per_unit;
    largest_of[lane] = std::max(largest_of[lane], magnitude);
    sum_of[lane] += magnitude;
    squares_of[lane] += magnitude * magnitude;
    zeros_of[lane] -= values[i] == 0 ? 1 : 0;
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) {
      largest_of[lane] = std::max(largest_of[lane], largest_of[lane + half]);
      sum_of[lane] += sum_of[lane + half];
      squares_of[lane] += squares_of[lane + half];
      zeros_of[lane] += zeros_of[lane + half];
    }
  }
  return {count - static_cast<std::size_t>(-zeros_of[0]), unit, largest_of[0], sum_of[0],
          squares_of[0]};
}

Moments MomentsOf(const float* values, std::size_t count, float unit) {
  return AddAndSum<false>(nullptr, count, values, unit);
}

Moments AddAndFindMoments(const float* addend, std::size_t count, float* values) {
  return addend == nullptr ? AddAndSum<false>(addend, count, values, 1.0f)
                           : AddAndSum<true>(addend, count, values, 1.0f);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(MomentsOf);
HWY_EXPORT(AddAndFindMoments);

namespace {

// Below, squares of values that matter would lose digits.
constexpr float kLeast = 0x1p-40f;

bool is_done(const Moments& moments) {
  return std::isfinite(moments.sum_squares) && (moments.largest >= kLeast || moments.count == 0);
}

// Again, in units of about the largest; not of less than 2^-126, whose inverse would overflow.
bool in_units(const float* values, std::size_t count, Moments& moments) {
  if (!all_finite(values, count)) return false;
  const int exponent = std::max(std::ilogb(max_magnitude(values, count)), -126);
  moments = HWY_DYNAMIC_DISPATCH(MomentsOf)(values, count, std::ldexp(1.0f, exponent));
  return true;
}

}  // namespace

bool moments_of(const float* values, std::size_t count, Moments& moments) {
  moments = HWY_DYNAMIC_DISPATCH(MomentsOf)(values, count, 1.0f);
  return is_done(moments) || in_units(values, count, moments);
}

bool add_and_find_moments(const float* addend, std::size_t count, float* values, Moments& moments) {
  moments = HWY_DYNAMIC_DISPATCH(AddAndFindMoments)(addend, count, values);
  return is_done(moments) || in_units(values, count, moments);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
