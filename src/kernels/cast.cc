#include "src/kernels/cast.h"

#include <cmath>

#include "src/kernels/scalar.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/cast.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void ToBf16(const float* values, std::size_t count, std::uint16_t* out) {
  const hn::ScalableTag<std::uint32_t> d;
  const hn::RebindToSigned<decltype(d)> ds;
  const hn::Rebind<std::uint16_t, decltype(d)> half;
  const auto* words = reinterpret_cast<const std::uint32_t*>(values);
  const auto infinity = hn::Set(d, 0x7F800000u);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto bits = hn::LoadU(d, words + i);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(d, 0x7FFFu)), odd);
    const auto is_nan = hn::Gt(hn::And(bits, hn::Set(d, 0x7FFFFFFFu)), infinity);
    const auto quiet = hn::Or(bits, hn::Set(d, 0x400000u));
    const auto high = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
    hn::StoreU(hn::DemoteTo(half, hn::BitCast(ds, high)), half, out + i);
  }
  scalar::to_bf16(values + i, count - i, out + i);
}

void FromBf16(const std::uint16_t* values, std::size_t count, float* out) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<std::uint16_t, decltype(d)> half;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto bits = hn::PromoteTo(du, hn::LoadU(half, values + i));
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(bits)), d, out + i);
  }
  scalar::from_bf16(values + i, count - i, out + i);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(ToBf16);
HWY_EXPORT(FromBf16);

void to_bf16(const float* values, std::size_t count, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(ToBf16)(values, count, out);
}
void from_bf16(const std::uint16_t* values, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromBf16)(values, count, out);
}
void to_f16(const float* values, std::size_t count, std::uint16_t* out) {
  scalar::to_f16(values, count, out);
}
void from_f16(const std::uint16_t* values, std::size_t count, float* out) {
  scalar::from_f16(values, count, out);
}

std::uint16_t bf16_below(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto truncated = static_cast<std::uint16_t>(bits >> 16);
  // Truncation moves towards zero: down for positive values, up for negative ones.
  const bool negative_and_inexact = (bits >> 31) != 0 && (bits & 0xFFFFu) != 0;
  return static_cast<std::uint16_t>(truncated + (negative_and_inexact ? 1 : 0));
}

std::uint16_t bf16_above(float value) {
  return static_cast<std::uint16_t>(bf16_below(-value) ^ 0x8000u);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
