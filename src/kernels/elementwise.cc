#include "src/kernels/elementwise.h"

#include "src/kernels/scalar.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/elementwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

void Add(const float* a, const float* b, std::size_t count, float* out) {
  const Floats d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i);
  }
  scalar::add(a + i, b + i, count - i, out + i);
}

// x - x is 0 for a finite x and NaN otherwise, so one sum tells.
bool AddFinite(const float* a, const float* b, std::size_t count, float* out) {
  const Floats d;
  auto zero = hn::Zero(d);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto sum = hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    hn::StoreU(sum, d, out + i);
    zero = hn::Add(zero, hn::Sub(sum, sum));
  }
  return hn::AllTrue(d, hn::Eq(zero, hn::Zero(d))) &
         scalar::add_finite(a + i, b + i, count - i, out + i);
}

void Subtract(const float* a, const float* b, std::size_t count, float* out) {
  const Floats d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hn::StoreU(hn::Sub(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i);
  }
  scalar::subtract(a + i, b + i, count - i, out + i);
}

void Scale(const float* a, float factor, std::size_t count, float* out) {
  const Floats d;
  const auto factors = hn::Set(d, factor);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hn::StoreU(hn::Mul(hn::LoadU(d, a + i), factors), d, out + i);
  }
  scalar::scale(a + i, factor, count - i, out + i);
}

bool AllFinite(const float* values, std::size_t count) {
  const Floats d;
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto value = hn::LoadU(d, values + i);
    sum = hn::Add(sum, hn::Sub(value, value));
  }
  return hn::AllTrue(d, hn::Eq(sum, hn::Zero(d))) && scalar::all_finite(values + i, count - i);
}

float MaxMagnitude(const float* values, std::size_t count) {
  const Floats d;
  auto largest = hn::Zero(d);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    largest = hn::Max(largest, hn::Abs(hn::LoadU(d, values + i)));
  }
  const float rest = scalar::max_magnitude(values + i, count - i);
  const float whole = hn::GetLane(hn::MaxOfLanes(d, largest));
  return whole > rest ? whole : rest;
}

double SumSquares(const float* values, std::size_t count) {
  const hn::CappedTag<double, 16> d;
  const hn::Rebind<float, decltype(d)> df;
  constexpr std::size_t kLanes = hn::MaxLanes(d);
  constexpr std::size_t kVectors = 16 / kLanes;
  hn::Vec<decltype(d)> sums[kVectors];
  for (auto& sum : sums) sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto value = hn::PromoteTo(d, hn::LoadU(df, values + i + v * kLanes));
      sums[v] = hn::Add(sums[v], hn::Mul(value, value));
    }
  }
  double lanes[16];
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, lanes + v * kLanes);
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    lanes[lane] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(Add);
HWY_EXPORT(AddFinite);
HWY_EXPORT(Subtract);
HWY_EXPORT(Scale);
HWY_EXPORT(AllFinite);
HWY_EXPORT(MaxMagnitude);
HWY_EXPORT(SumSquares);

void add(const float* a, const float* b, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(Add)(a, b, count, out);
}
bool add_finite(const float* a, const float* b, std::size_t count, float* out) {
  return HWY_DYNAMIC_DISPATCH(AddFinite)(a, b, count, out);
}
void subtract(const float* a, const float* b, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(Subtract)(a, b, count, out);
}
void scale(const float* a, float factor, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(Scale)(a, factor, count, out);
}
bool all_finite(const float* values, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(AllFinite)(values, count);
}
float max_magnitude(const float* values, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(MaxMagnitude)(values, count);
}
double sum_squares(const float* values, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(SumSquares)(values, count);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
