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

using Words = hn::ScalableTag<std::int32_t>;  // a magnitude has no sign bit
using Floats = hn::RebindToFloat<Words>;
using Halves = hn::Rebind<std::uint16_t, Words>;
using Word = hn::Vec<Words>;

// The two types: from the bits of fp32 and back, as the scalar references do it, but that all cases
// are computed and one is chosen. The 16 bits are the low ones of a word.
struct Bf16 {
  static constexpr auto kTo = scalar::to_bf16;
  static constexpr auto kFrom = scalar::from_bf16;
  static constexpr auto kKeepLoss = scalar::to_bf16_keep_loss;

  static HWY_INLINE Word narrow(Word bits) {
    const Words d;
    const hn::RebindToUnsigned<Words> du;
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(d, 0x7FFF)), odd);
    const auto is_nan = hn::Gt(hn::And(bits, hn::Set(d, 0x7FFFFFFF)), hn::Set(d, 0x7F800000));
    const auto quiet = hn::Or(bits, hn::Set(d, 0x400000));
    const auto result = hn::IfThenElse(is_nan, quiet, rounded);
    return hn::BitCast(d, hn::ShiftRight<16>(hn::BitCast(du, result)));
  }
  static HWY_INLINE Word widen(Word half) { return hn::ShiftLeft<16>(half); }
};

struct F16 {
  static constexpr auto kTo = scalar::to_f16;
  static constexpr auto kFrom = scalar::from_f16;
  static constexpr auto kKeepLoss = scalar::to_f16_keep_loss;

  static HWY_INLINE Word narrow(Word bits) {
    const Words d;
    const Floats df;
    const hn::RebindToUnsigned<Words> du;
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
    return hn::Or(result, sign);
  }
  static HWY_INLINE Word widen(Word half) {
    const Words d;
    const Floats df;
    const auto magnitude = hn::And(half, hn::Set(d, 0x7FFF));
    const auto sign = hn::ShiftLeft<16>(hn::Xor(half, magnitude));
    const auto subnormal = hn::Mul(hn::ConvertTo(df, magnitude), hn::Set(df, 0x1.0p-24f));
    // The exponents of fp32 reach 112 lower, and that of infinity and NaN is 112 higher once more.
    const auto is_finite = hn::Lt(magnitude, hn::Set(d, 0x7C00));
    const auto offset = hn::IfThenElse(is_finite, hn::Set(d, 112 << 23), hn::Set(d, 224 << 23));
    const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), offset);
    const auto is_subnormal = hn::Lt(magnitude, hn::Set(d, 0x400));
    return hn::Or(hn::IfThenElse(is_subnormal, hn::BitCast(d, subnormal), normal), sign);
  }
};

template <typename Type>
void Narrow(const float* values, std::size_t count, std::uint16_t* out) {
  const Words d;
  const Halves half;
  const auto* words = reinterpret_cast<const std::int32_t*>(values);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hn::StoreU(hn::DemoteTo(half, Type::narrow(hn::LoadU(d, words + i))), half, out + i);
  }
  Type::kTo(values + i, count - i, out + i);
}

template <typename Type>
void Widen(const std::uint16_t* values, std::size_t count, float* out) {
  const Words d;
  const Floats df;
  const Halves half;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto word = Type::widen(hn::PromoteTo(d, hn::LoadU(half, values + i)));
    hn::StoreU(hn::BitCast(df, word), df, out + i);
  }
  Type::kFrom(values + i, count - i, out + i);
}

// x - x is 0 for a finite x and NaN otherwise, so one sum tells.
template <typename Type>
bool NarrowKeepLoss(const float* addend, std::size_t count, float* values, std::uint16_t* out) {
  const Words d;
  const Floats df;
  const Halves half;
  auto zero = hn::Zero(df);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    auto value = hn::LoadU(df, values + i);
    if (addend != nullptr) value = hn::Add(value, hn::LoadU(df, addend + i));
    const auto narrow = Type::narrow(hn::BitCast(d, value));
    hn::StoreU(hn::DemoteTo(half, narrow), half, out + i);
    const auto loss = hn::Sub(value, hn::BitCast(df, Type::widen(narrow)));
    hn::StoreU(loss, df, values + i);
    zero = hn::Add(zero, hn::Sub(loss, loss));
  }
  const float* rest = addend == nullptr ? nullptr : addend + i;
  return hn::AllTrue(df, hn::Eq(zero, hn::Zero(df))) &
         Type::kKeepLoss(rest, count - i, values + i, out + i);
}

void ToBf16(const float* values, std::size_t count, std::uint16_t* out) {
  Narrow<Bf16>(values, count, out);
}
void FromBf16(const std::uint16_t* values, std::size_t count, float* out) {
  Widen<Bf16>(values, count, out);
}
bool ToBf16KeepLoss(const float* addend, std::size_t count, float* values, std::uint16_t* out) {
  return NarrowKeepLoss<Bf16>(addend, count, values, out);
}
void ToF16(const float* values, std::size_t count, std::uint16_t* out) {
  Narrow<F16>(values, count, out);
}
void FromF16(const std::uint16_t* values, std::size_t count, float* out) {
  Widen<F16>(values, count, out);
}
bool ToF16KeepLoss(const float* addend, std::size_t count, float* values, std::uint16_t* out) {
  return NarrowKeepLoss<F16>(addend, count, values, out);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(ToBf16);
HWY_EXPORT(FromBf16);
HWY_EXPORT(ToBf16KeepLoss);
HWY_EXPORT(ToF16);
HWY_EXPORT(FromF16);
HWY_EXPORT(ToF16KeepLoss);

void to_bf16(const float* values, std::size_t count, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(ToBf16)(values, count, out);
}
void from_bf16(const std::uint16_t* values, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromBf16)(values, count, out);
}
bool to_bf16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out) {
  return HWY_DYNAMIC_DISPATCH(ToBf16KeepLoss)(addend, count, values, out);
}
void to_f16(const float* values, std::size_t count, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(ToF16)(values, count, out);
}
void from_f16(const std::uint16_t* values, std::size_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromF16)(values, count, out);
}
bool to_f16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out) {
  return HWY_DYNAMIC_DISPATCH(ToF16KeepLoss)(addend, count, values, out);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
