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

// As the scalar reference does it, with all cases computed and one chosen.
void ToF16(const float* values, std::size_t count, std::uint16_t* out) {
  const hn::ScalableTag<std::int32_t> d;  // a magnitude has no sign bit
  const hn::RebindToFloat<decltype(d)> df;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<std::uint16_t, decltype(d)> half;
  const auto* words = reinterpret_cast<const std::int32_t*>(values);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto bits = hn::LoadU(d, words + i);
    const auto magnitude = hn::And(bits, hn::Set(d, 0x7FFFFFFF));
    const auto sign = hn::BitCast(d, hn::ShiftRight<16>(hn::BitCast(du, hn::Xor(bits, magnitude))));
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d, 1));
    const auto rounded = hn::Add(hn::Add(magnitude, hn::Set(d, 0xFFF - 0x38000000)), odd);
    const auto shifted = hn::Add(hn::BitCast(df, magnitude), hn::Set(df, 0.5f));
    const auto subnormal = hn::Sub(hn::BitCast(d, shifted), hn::Set(d, 0x3F000000));
    auto result = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0x38800000)), subnormal,
                                 hn::ShiftRight<13>(rounded));
    result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(d, 0x477FEFFF)), hn::Set(d, 0x7C00), result);
    result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(d, 0x7F800000)), hn::Set(d, 0x7E00), result);
    hn::StoreU(hn::DemoteTo(half, hn::Or(result, sign)), half, out + i);
  }
  scalar::to_f16(values + i, count - i, out + i);
}

void FromF16(const std::uint16_t* values, std::size_t count, float* out) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> ds;
  const hn::Rebind<std::uint16_t, decltype(d)> half;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto bits = hn::PromoteTo(ds, hn::LoadU(half, values + i));
    const auto magnitude = hn::And(bits, hn::Set(ds, 0x7FFF));
    const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
    const auto subnormal = hn::Mul(hn::ConvertTo(d, magnitude), hn::Set(d, 0x1.0p-24f));
    // The exponents of fp32 reach 112 lower, and that of infinity and NaN is 112 higher once more.
    const auto is_finite = hn::Lt(magnitude, hn::Set(ds, 0x7C00));
    const auto offset = hn::IfThenElse(is_finite, hn::Set(ds, 112 << 23), hn::Set(ds, 224 << 23));
    const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), offset);
    const auto result =
        hn::IfThenElse(hn::Lt(magnitude, hn::Set(ds, 0x400)), hn::BitCast(ds, subnormal), normal);
    hn::StoreU(hn::BitCast(d, hn::Or(result, sign)), d, out + i);
  }
  scalar::from_f16(values + i, count - i, out + i);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(ToBf16);
HWY_EXPORT(FromBf16);
HWY_EXPORT(ToF16);
HWY_EXPORT(FromF16);

void to_bf16(const float* values, std::size_t count, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(ToBf16)(values, count, out);
}
void from_bf16(const std::uint16_t* values, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromBf16)(values, count, out);
}
void to_f16(const float* values, std::size_t count, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(ToF16)(values, count, out);
}
void from_f16(const std::uint16_t* values, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromF16)(values, count, out);
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
