#include "src/kernels/rounding_loss.h"

#include "src/kernels/scalar.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/rounding_loss.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Sixteen = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Sixteen>;

template <bool kStochastic>
HWY_INLINE Vector Loss(Vector steps) {
  if constexpr (kStochastic) {
    const auto fraction = hn::Sub(steps, hn::Floor(steps));
    return hn::Mul(fraction, hn::Sub(hn::Set(Sixteen(), 1.0f), fraction));
  }
  const auto distance = hn::Sub(steps, hn::Floor(hn::Add(steps, hn::Set(Sixteen(), 0.5f))));
  return hn::Mul(distance, distance);
}

template <bool kStochastic>
float SumLosses(const float* values, std::size_t count, float low, float unit) {
  const Sixteen d;
  constexpr std::size_t kLanes = hn::MaxLanes(d);
  constexpr std::size_t kVectors = 16 / kLanes;
  const auto lows = hn::Set(d, low);
  const auto units = hn::Set(d, unit);
  Vector sums[kVectors];
  for (Vector& sum : sums) sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto value = hn::LoadU(d, values + i + v * kLanes);
      sums[v] = hn::Add(sums[v], Loss<kStochastic>(hn::Div(hn::Sub(value, lows), units)));
    }
  }
  float lanes[16];
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, lanes + v * kLanes);
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    lanes[lane] += scalar::rounding_loss_of(values[i], low, unit, kStochastic);
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

float RoundingLoss(const float* values, std::size_t count, float low, float unit, bool stochastic) {
  return stochastic ? SumLosses<true>(values, count, low, unit)
                    : SumLosses<false>(values, count, low, unit);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(RoundingLoss);

float rounding_loss(const float* values, std::size_t count, float low, float unit,
                    bool stochastic) {
  return HWY_DYNAMIC_DISPATCH(RoundingLoss)(values, count, low, unit, stochastic);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
