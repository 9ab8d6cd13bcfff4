#include "src/kernels/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hwy/cache_control.h"
#include "src/kernels/scalar.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/quantize.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Words = hn::RebindToUnsigned<Floats>;

template <bool kAdd>
bool AddAndRange(const float* addend, std::size_t count, float* values, Range& range) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  constexpr std::size_t kChains = 4;  // that do not wait for each other
  const auto infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  hn::Vec<Floats> low[kChains], high[kChains], zero[kChains];
  for (std::size_t c = 0; c < kChains; ++c) {
    low[c] = infinity;
    high[c] = hn::Neg(infinity);
    zero[c] = hn::Zero(d);
  }
  const auto take = [&](std::size_t c, std::size_t i) HWY_ATTR {
    auto value = hn::LoadU(d, values + i);
    if constexpr (kAdd) {
      value = hn::Add(value, hn::LoadU(d, addend + i));
      hn::StoreU(value, d, values + i);
    }
    low[c] = hn::Min(low[c], value);
    high[c] = hn::Max(high[c], value);
    // x - x is 0 for a finite x and NaN otherwise.
    zero[c] = hn::Add(zero[c], hn::Sub(value, value));
  };
  std::size_t i = 0;
  for (; i + kChains * lanes <= count; i += kChains * lanes) {
    for (std::size_t c = 0; c < kChains; ++c) take(c, i + c * lanes);
  }
  for (; i + lanes <= count; i += lanes) take(0, i);
  for (std::size_t c = 1; c < kChains; ++c) {
    low[0] = hn::Min(low[0], low[c]);
    high[0] = hn::Max(high[0], high[c]);
    zero[0] = hn::Add(zero[0], zero[c]);
  }
  bool finite = hn::AllTrue(d, hn::Eq(zero[0], hn::Zero(d)));
  range = {hn::GetLane(hn::MinOfLanes(d, low[0])), hn::GetLane(hn::MaxOfLanes(d, high[0]))};
  for (; i < count; ++i) {
    if constexpr (kAdd) values[i] += addend[i];
    range.low = std::min(range.low, values[i]);
    range.high = std::max(range.high, values[i]);
    finite &= std::isfinite(values[i]);
  }
  range = {range.low + 0.0f, range.high + 0.0f};
  return finite;
}

bool AddAndFindRange(const float* addend, std::size_t count, float* values, Range& range) {
  return addend == nullptr ? AddAndRange<false>(addend, count, values, range)
                           : AddAndRange<true>(addend, count, values, range);
}

Range RangeOf(const float* values, std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  if (count < lanes) return scalar::range_of(values, count);
  auto low = hn::LoadU(d, values);
  auto high = low;
  std::size_t i = lanes;
  for (; i + lanes <= count; i += lanes) {
    const auto value = hn::LoadU(d, values + i);
    low = hn::Min(low, value);
    high = hn::Max(high, value);
  }
  Range range{hn::GetLane(hn::MinOfLanes(d, low)), hn::GetLane(hn::MaxOfLanes(d, high))};
  for (; i < count; ++i) {
    range.low = std::min(range.low, values[i]);
    range.high = std::max(range.high, values[i]);
  }
  return {range.low + 0.0f, range.high + 0.0f};
}

HWY_INLINE hn::Vec<Words> Mix32(hn::Vec<Words> x) {  // as mix32() in base/random.h
  const Words d;
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7FEB352Du));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, 0x846CA68Bu));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

// quotient + uniform(stream, index). Their product is exact, so that with FMA it is the same sum.
HWY_INLINE hn::Vec<Floats> AddUniform(hn::Vec<Floats> quotient, const RandomStream& stream,
                                      hn::Vec<Words> index) {
  const Words d;
  const Floats df;
  const auto inner = Mix32(hn::Xor(index, hn::Set(d, stream.key0)));
  const auto bits = Mix32(hn::Add(inner, hn::Set(d, stream.key1)));
  const auto whole = hn::BitCast(hn::RebindToSigned<Words>(), hn::ShiftRight<8>(bits));
  return hn::MulAdd(hn::ConvertTo(df, whole), hn::Set(df, 0x1.0p-24f), quotient);
}

// What to divide by. Where a side has only zeros, anything but zero does.
HWY_INLINE float Divisor(float unit) { return unit == 0 ? 1.0f : unit; }

// One code a byte. With kKeepLoss, values[i] becomes what its code leaves.
template <bool kStochastic, bool kKeepLoss, typename Float>
void CodesOf(Float* values, std::size_t count, const Grid& grid, const RandomStream* stream,
             std::uint32_t first, std::uint8_t* codes, [[maybe_unused]] const Upcoming& upcoming) {
  const Floats d;
  const Words dw;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto below = static_cast<float>(grid.below);
  const auto units_below = hn::Set(d, Divisor(grid.unit_below));
  const auto units_above = hn::Set(d, Divisor(grid.unit_above));
  const auto lowest = hn::Set(d, -below);
  const auto highest = hn::Set(d, static_cast<float>(grid.above()));
  const auto to_low_bits = hn::Set(d, 0x1.0p23f + below);  // the sum has the code there
  auto index = hn::Iota(dw, first);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    if constexpr (kKeepLoss) {
      hwy::Prefetch(upcoming.values + i);
      hwy::Prefetch(upcoming.addend + i);
    }
    const auto value = hn::LoadU(d, values + i);
    const auto is_below = hn::Lt(value, hn::Zero(d));
    const auto unit = hn::IfThenElse(is_below, units_below, units_above);
    auto steps = hn::Div(value, unit);
    if constexpr (kStochastic) {
      steps = AddUniform(steps, *stream, index);
      index = hn::Add(index, hn::Set(dw, static_cast<std::uint32_t>(hn::Lanes(d))));
    } else {
      steps = hn::Add(steps, hn::Set(d, 0.5f));
    }
    const auto whole = hn::Floor(hn::Min(hn::Max(steps, lowest), highest));
    const auto low_bits = hn::BitCast(dw, hn::Add(whole, to_low_bits));
    hn::StoreU(hn::TruncateTo(bytes, low_bits), bytes, codes + i);
    // Rounding leaves no value on the other side of zero, so the unit is the decoder's.
    if constexpr (kKeepLoss) hn::StoreU(hn::Sub(value, hn::Mul(whole, unit)), d, values + i);
  }
  for (; i < count; ++i) {
    codes[i] = code_of(values[i], grid, stream, first + static_cast<std::uint32_t>(i));
    if constexpr (kKeepLoss) values[i] -= value_of(codes[i], grid);
  }
}

void Codes(const float* values, std::size_t count, const Grid& grid, const RandomStream* stream,
           std::uint32_t first, std::uint8_t* codes) {
  stream == nullptr ? CodesOf<false, false>(values, count, grid, stream, first, codes, {})
                    : CodesOf<true, false>(values, count, grid, stream, first, codes, {});
}

void CodesKeepLoss(float* values, std::size_t count, const Grid& grid, const RandomStream* stream,
                   std::uint32_t first, std::uint8_t* codes, const Upcoming& upcoming) {
  stream == nullptr ? CodesOf<false, true>(values, count, grid, stream, first, codes, upcoming)
                    : CodesOf<true, true>(values, count, grid, stream, first, codes, upcoming);
}

void DequantizeAdd(const std::uint8_t* codes, std::size_t count, const Grid& grid,
                   float* accumulator) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto below = hn::Set(d, static_cast<float>(grid.below));
  const auto units_below = hn::Set(d, grid.unit_below);
  const auto units_above = hn::Set(d, grid.unit_above);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto code = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(bytes, codes + i)));
    const auto steps = hn::Sub(code, below);
    const auto unit = hn::IfThenElse(hn::Lt(steps, hn::Zero(d)), units_below, units_above);
    const auto value = hn::Mul(steps, unit);
    hn::StoreU(hn::Add(hn::LoadU(d, accumulator + i), value), d, accumulator + i);
  }
  for (; i < count; ++i) accumulator[i] += value_of(codes[i], grid);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(RangeOf);
HWY_EXPORT(AddAndFindRange);
HWY_EXPORT(Codes);
HWY_EXPORT(CodesKeepLoss);
HWY_EXPORT(DequantizeAdd);

Range range_of(const float* values, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(RangeOf)(values, count);
}

bool add_and_find_range(const float* addend, std::size_t count, float* values, Range& range) {
  return HWY_DYNAMIC_DISPATCH(AddAndFindRange)(addend, count, values, range);
}

void quantize_pack(const float* values, std::size_t count, const Grid& grid,
                   const RandomStream* stream, std::uint32_t first, std::uint8_t* packed) {
  pack_in_blocks(count, grid.bits, packed, [&](std::size_t at, std::size_t length, auto* codes) {
    HWY_DYNAMIC_DISPATCH(Codes)
    (values + at, length, grid, stream, first + static_cast<std::uint32_t>(at), codes);
  });
}

void quantize_pack_keep_loss(float* values, std::size_t count, const Grid& grid,
                             const RandomStream* stream, std::uint32_t first, std::uint8_t* packed,
                             const Upcoming& upcoming) {
  pack_in_blocks(count, grid.bits, packed, [&](std::size_t at, std::size_t length, auto* codes) {
    HWY_DYNAMIC_DISPATCH(CodesKeepLoss)
    (values + at, length, grid, stream, first + static_cast<std::uint32_t>(at), codes,
     {upcoming.values + at, upcoming.addend + at});
  });
}

void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, const Grid& grid,
                           float* accumulator) {
  unpack_in_blocks(packed, count, grid.bits,
                   [&](std::size_t at, std::size_t length, const std::uint8_t* codes) {
                     HWY_DYNAMIC_DISPATCH(DequantizeAdd)(codes, length, grid, accumulator + at);
                   });
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
