#include "src/kernels/quantize.h"

#include <algorithm>

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
  return range;
}

HWY_INLINE hn::Vec<Words> Mix32(hn::Vec<Words> x) {  // as mix32() in base/random.h
  const Words d;
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7FEB352Du));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, 0x846CA68Bu));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

HWY_INLINE hn::Vec<Floats> Uniform(const RandomStream& stream, hn::Vec<Words> index) {
  const Words d;
  const Floats df;
  const auto inner = Mix32(hn::Xor(index, hn::Set(d, stream.key0)));
  const auto bits = Mix32(hn::Add(inner, hn::Set(d, stream.key1)));
  const auto whole = hn::BitCast(hn::RebindToSigned<Words>(), hn::ShiftRight<8>(bits));
  return hn::Mul(hn::ConvertTo(df, whole), hn::Set(df, 0x1.0p-24f));
}

// One code a byte.
void Codes(const float* values, std::size_t count, int bits, float low, float unit,
           const RandomStream* stream, std::uint32_t first, std::uint8_t* codes) {
  const Floats d;
  const Words dw;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto lows = hn::Set(d, low);
  const auto units = hn::Set(d, unit);
  const auto highest = hn::Set(d, static_cast<float>((1 << bits) - 1));
  auto u = hn::Set(d, 0.5f);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    if (stream != nullptr) {
      u = Uniform(*stream, hn::Iota(dw, first + static_cast<std::uint32_t>(i)));
    }
    const auto steps = hn::Div(hn::Sub(hn::LoadU(d, values + i), lows), units);
    const auto code = hn::Floor(hn::Add(steps, u));
    const auto clamped = hn::Min(hn::Max(code, hn::Zero(d)), highest);
    hn::StoreU(hn::DemoteTo(bytes, hn::ConvertTo(di, clamped)), bytes, codes + i);
  }
  for (; i < count; ++i) {
    codes[i] =
        scalar::code_of(values[i], bits, low, unit, stream, first + static_cast<std::uint32_t>(i));
  }
}

void DequantizeAdd(const std::uint8_t* codes, std::size_t count, float low, float unit,
                   float* accumulator) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto lows = hn::Set(d, low);
  const auto units = hn::Set(d, unit);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto code = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(bytes, codes + i)));
    const auto value = hn::Add(lows, hn::Mul(code, units));
    hn::StoreU(hn::Add(hn::LoadU(d, accumulator + i), value), d, accumulator + i);
  }
  for (; i < count; ++i) accumulator[i] += low + static_cast<float>(codes[i]) * unit;
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {
namespace {

// Codes pass through a block on the stack, one a byte. A multiple of 8, so that blocks end at
// bytes.
constexpr std::size_t kBlock = 2048;

// 8 codes make `bits` bytes.
void pack(const std::uint8_t* codes, std::size_t count, int bits, std::uint8_t* packed) {
  for (std::size_t i = 0; i < count; i += 8) {
    const std::size_t group = std::min<std::size_t>(8, count - i);
    std::uint64_t word = 0;
    for (std::size_t k = 0; k < group; ++k) {
      word |= std::uint64_t{codes[i + k]} << (k * static_cast<std::size_t>(bits));
    }
    for (std::size_t byte = 0; byte < packed_bytes(group, bits); ++byte) {
      *packed++ = static_cast<std::uint8_t>(word >> (8 * byte));
    }
  }
}

void unpack(const std::uint8_t* packed, std::size_t count, int bits, std::uint8_t* codes) {
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  for (std::size_t i = 0; i < count; i += 8) {
    const std::size_t group = std::min<std::size_t>(8, count - i);
    std::uint64_t word = 0;
    for (std::size_t byte = 0; byte < packed_bytes(group, bits); ++byte) {
      word |= std::uint64_t{*packed++} << (8 * byte);
    }
    for (std::size_t k = 0; k < group; ++k) {
      codes[i + k] =
          static_cast<std::uint8_t>((word >> (k * static_cast<std::size_t>(bits))) & mask);
    }
  }
}

}  // namespace

HWY_EXPORT(RangeOf);
HWY_EXPORT(Codes);
HWY_EXPORT(DequantizeAdd);

Range range_of(const float* values, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(RangeOf)(values, count);
}

void quantize_pack(const float* values, std::size_t count, int bits, float low, float unit,
                   const RandomStream* stream, std::uint32_t first, std::uint8_t* packed) {
  if (unit == 0) {
    std::fill_n(packed, packed_bytes(count, bits), std::uint8_t{0});
    return;
  }
  std::uint8_t codes[kBlock];
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t length = std::min(kBlock, count - at);
    HWY_DYNAMIC_DISPATCH(Codes)
    (values + at, length, bits, low, unit, stream, first + static_cast<std::uint32_t>(at), codes);
    pack(codes, length, bits, packed + packed_bytes(at, bits));
  }
}

void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, int bits, float low,
                           float unit, float* accumulator) {
  std::uint8_t codes[kBlock];
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t length = std::min(kBlock, count - at);
    unpack(packed + packed_bytes(at, bits), length, bits, codes);
    HWY_DYNAMIC_DISPATCH(DequantizeAdd)(codes, length, low, unit, accumulator + at);
  }
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
