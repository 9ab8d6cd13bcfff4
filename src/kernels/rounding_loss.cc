#include "src/kernels/rounding_loss.h"

#include <algorithm>

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

struct Side {
  Vector divisor;
  Vector weight;  // of a squared unit of this side, in squares of the larger unit
};

HWY_INLINE Side SideOf(float unit, float larger) {
  const Sixteen d;
  const float share = unit / larger;
  return {hn::Set(d, unit == 0 ? 1.0f : unit), hn::Set(d, share * share)};
}

template <bool kStochastic>
HWY_INLINE Vector Loss(Vector enclosed) {
  if constexpr (kStochastic) {
    const auto fraction = hn::Sub(enclosed, hn::Floor(enclosed));
    return hn::Mul(fraction, hn::Sub(hn::Set(Sixteen(), 1.0f), fraction));
  }
  const auto distance = hn::Sub(enclosed, hn::Floor(hn::Add(enclosed, hn::Set(Sixteen(), 0.5f))));
  return hn::Mul(distance, distance);
}

template <bool kStochastic>
float SumLosses(const float* values, std::size_t count, const Grid& grid) {
  const Sixteen d;
  constexpr std::size_t kLanes = hn::MaxLanes(d);
  constexpr std::size_t kVectors = 16 / kLanes;
  const float larger = std::max(grid.unit_below, grid.unit_above);
  const Side below = SideOf(grid.unit_below, larger), above = SideOf(grid.unit_above, larger);
  const auto lowest = hn::Set(d, -static_cast<float>(grid.below));
  const auto highest = hn::Set(d, static_cast<float>(grid.above()));
  Vector sums[kVectors];
  for (Vector& sum : sums) sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto value = hn::LoadU(d, values + i + v * kLanes);
      const auto is_below = hn::Lt(value, hn::Zero(d));
      const auto steps = hn::Div(value, hn::IfThenElse(is_below, below.divisor, above.divisor));
      const auto enclosed = hn::Min(hn::Max(steps, lowest), highest);
      const auto beyond = hn::Sub(steps, enclosed);
      const auto loss = hn::Add(Loss<kStochastic>(enclosed), hn::Mul(beyond, beyond));
      const auto weight = hn::IfThenElse(is_below, below.weight, above.weight);
      sums[v] = hn::Add(sums[v], hn::Mul(loss, weight));
    }
  }
  float lanes[16];
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, lanes + v * kLanes);
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    lanes[lane] += scalar::rounding_loss_of(values[i], grid, kStochastic);
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

float RoundingLoss(const float* values, std::size_t count, const Grid& grid, bool stochastic) {
  return stochastic ? SumLosses<true>(values, count, grid) : SumLosses<false>(values, count, grid);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(RoundingLoss);

float rounding_loss(const float* values, std::size_t count, const Grid& grid, bool stochastic) {
  return HWY_DYNAMIC_DISPATCH(RoundingLoss)(values, count, grid, stochastic);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
