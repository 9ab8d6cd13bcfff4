#include "src/kernels/moments.h"

#include <cstdint>

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
          hn::Sub(zeros[v], hn::VecFromMask(di, hn::RebindMask(di, hn::Eq(value, hn::Zero(d)))));
    }
  }
  MomentSums all;
  for (std::size_t v = 0; v < kVectors; ++v) {
    hn::StoreU(largest[v], d, all.largest + v * kLanes);
    hn::StoreU(sums[v], d, all.sum + v * kLanes);
    hn::StoreU(squares[v], d, all.squares + v * kLanes);
    hn::StoreU(zeros[v], di, all.zeros + v * kLanes);
  }
  for (std::size_t s = 0; i < count; ++i, ++s) {
    if constexpr (kAdd) values[i] += addend[i];
    all.take(s, values[i], per_unit);
  }
  return all.fold(count, unit);
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

// Again, in units of about the largest, if need be. False when a value is not finite.
bool settle(const float* values, std::size_t count, Moments& moments) {
  if (moments.suit()) return true;
  if (!moments.are_finite()) return false;
  moments = HWY_DYNAMIC_DISPATCH(MomentsOf)(values, count, unit_of(moments.largest));
  return true;
}

}  // namespace

bool moments_of(const float* values, std::size_t count, Moments& moments) {
  moments = HWY_DYNAMIC_DISPATCH(MomentsOf)(values, count, 1.0f);
  return settle(values, count, moments);
}

bool add_and_find_moments(const float* addend, std::size_t count, float* values, Moments& moments) {
  moments = HWY_DYNAMIC_DISPATCH(AddAndFindMoments)(addend, count, values);
  return settle(values, count, moments);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
