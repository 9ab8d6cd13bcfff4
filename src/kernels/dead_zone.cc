#include "src/kernels/dead_zone.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "hwy/cache_control.h"
#include "src/kernels/scalar.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/dead_zone.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Whole = hn::RebindToSigned<Floats>;

constexpr std::size_t kAhead = 512;  // values, also of the next block; none is read too early
constexpr std::uint32_t kMagnitudeMask = 0x7FFFFFFF, kInfinity = 0x7F800000;

void Bins(const float* values, const float* addend, std::size_t count, std::uint32_t* bins) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(du, kMagnitudeMask);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    auto value = hn::LoadU(d, values + i);
    if (addend != nullptr) value = hn::Add(value, hn::LoadU(d, addend + i));
    const auto magnitude = hn::And(hn::BitCast(du, value), magnitudes);
    hn::StoreU(hn::ShiftRight<kMagnitudeShift>(magnitude), du, bins + i);
  }
  for (; i < count; ++i) {
    const float value = addend == nullptr ? values[i] : values[i] + addend[i];
    bins[i] = (std::bit_cast<std::uint32_t>(value) & kMagnitudeMask) >> kMagnitudeShift;
  }
}

struct Lanes {
  const Floats d;
  const hn::Vec<Floats> step, scale, inverse, rounding, first, other, limit;

  explicit HWY_INLINE Lanes(const DeadZone& zone)
      : step(hn::Set(d, zone.step)),
        scale(hn::Set(d, zone.scale())),
        inverse(hn::Set(d, zone.inverse())),
        rounding(hn::Set(d, zone.rounding)),
        first(hn::Set(d, zone.first)),
        other(hn::Set(d, zone.other)),
        limit(hn::Set(d, zone.limit)) {}

  HWY_INLINE hn::Vec<Floats> MagnitudeOf(hn::Vec<Floats> value) const {
    const auto steps = hn::Add(hn::Mul(hn::Mul(hn::Abs(value), scale), inverse), rounding);
    return hn::Floor(hn::Min(steps, limit));
  }
  /// Takes fewer operations than hn::ConvertTo.
  HWY_INLINE hn::Vec<Whole> WholeOf(hn::Vec<Floats> magnitude) const {
    const auto base = hn::Set(d, 0x1.0p23f);  // whose lowest bit is a one
    return hn::BitCast(Whole(), hn::Xor(hn::Add(magnitude, base), base));
  }
  /// What a magnitude that is not zero stands for, without its sign.
  HWY_INLINE hn::Vec<Floats> ValueOf(hn::Vec<Floats> magnitude) const {
    const auto is_first = hn::Eq(magnitude, hn::Set(d, 1.0f));
    return hn::Mul(hn::Add(magnitude, hn::IfThenElse(is_first, first, other)), step);
  }
};

template <bool kAdds, bool kRaw>
std::size_t Tokens(const float* values, const float* addend, std::size_t count, float* sums,
                   const DeadZone& zone, std::uint32_t* tokens, std::uint8_t* raw) {
  const Lanes lanes(zone);
  const Floats d;
  const Whole di;
  const hn::RebindToUnsigned<Floats> du;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  [[maybe_unused]] const int raw_bits = zone.raw_bits;
  [[maybe_unused]] const auto half = hn::Set(di, raw_bits > 0 ? 1 << (raw_bits - 1) : 0);
  [[maybe_unused]] const auto raw_mask = hn::Set(di, (1 << raw_bits) - 1);
  const auto low_half = hn::Set(du, 0xFFFFu), magnitude_mask = hn::Set(du, kMagnitudeMask);
  // Of the first lane's value, shifted.
  const auto places = hn::Set(du, static_cast<std::uint32_t>(hn::Lanes(d)) << 16);
  auto place = hn::ShiftLeft<16>(hn::Iota(du, 0));
  auto largest = hn::Zero(du);
  std::size_t written = 0, i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hwy::Prefetch(values + i + kAhead);
    auto value = hn::LoadU(d, values + i);
    if constexpr (kAdds) {
      hwy::Prefetch(addend + i + kAhead);
      value = hn::Add(value, hn::LoadU(d, addend + i));
      hn::StoreU(value, d, sums + i);
    }
    largest = hn::Max(largest, hn::And(hn::BitCast(du, value), magnitude_mask));
    const auto magnitude = lanes.WholeOf(lanes.MagnitudeOf(value));
    const auto negative = hn::BroadcastSignBit(hn::BitCast(di, value));
    auto level = hn::Sub(hn::Xor(magnitude, negative), negative);
    if constexpr (kRaw) {
      const auto raised = hn::Add(level, half);
      const auto code = hn::BitCast(du, hn::And(raised, raw_mask));
      hn::StoreU(hn::TruncateTo(bytes, code), bytes, raw + i);
      level = hn::ShiftRightSame(raised, raw_bits);
    }
    const auto is_token = hn::RebindMask(du, hn::Ne(level, hn::Zero(di)));
    const auto token = hn::Or(place, hn::And(hn::BitCast(du, level), low_half));
    // A whole vector is written; written <= i, so it ends within `count`.
    hn::StoreU(hn::Compress(token, is_token), du, tokens + written);
    written += hn::CountTrue(du, is_token);
    place = hn::Add(place, places);
  }
  bool finite = hn::GetLane(hn::MaxOfLanes(du, largest)) < kInfinity;
  for (; i < count; ++i) {
    float value = values[i];
    if constexpr (kAdds) sums[i] = value += addend[i];
    if (!std::isfinite(value)) {
      finite = false;
      continue;
    }
    const std::int32_t level = scalar::level_of(value, zone, raw + i);
    if (level != 0) tokens[written++] = level_token(static_cast<std::uint32_t>(i), level);
  }
  return finite ? written : kNotFinite;
}

std::size_t AddAndFindTokens(const float* values, const float* addend, std::size_t count,
                             float* sums, const DeadZone& zone, std::uint32_t* tokens,
                             std::uint8_t* raw) {
  const bool adds = addend != nullptr, has_raw = zone.raw_bits > 0;
  const auto tokens_to = adds ? (has_raw ? Tokens<true, true> : Tokens<true, false>)
                              : (has_raw ? Tokens<false, true> : Tokens<false, false>);
  return tokens_to(values, addend, count, sums, zone, tokens, raw);
}

void KeepLoss(float* values, std::size_t count, const DeadZone& zone) {
  const Lanes lanes(zone);
  const Floats d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hwy::Prefetch(values + i + kAhead);
    const auto value = hn::LoadU(d, values + i);
    const auto magnitude = lanes.MagnitudeOf(value);
    const auto sent = hn::CopySign(lanes.ValueOf(magnitude), value);
    const auto is_zero = hn::Eq(magnitude, hn::Zero(d));
    hn::StoreU(hn::Sub(value, hn::IfThenZeroElse(is_zero, sent)), d, values + i);
  }
  scalar::keep_loss(values + i, count - i, zone);
}

bool AddLevels(const std::int16_t* levels, const std::uint8_t* raw, std::size_t count,
               const DeadZone& zone, float* accumulator) {
  const Lanes lanes(zone);
  const Floats d;
  const Whole di;
  const hn::Rebind<std::int16_t, Floats> shorts;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const int raw_bits = zone.raw_bits;
  const auto half = hn::Set(di, raw_bits > 0 ? 1 << (raw_bits - 1) : 0);
  auto largest = hn::Zero(d);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    auto whole = hn::PromoteTo(di, hn::LoadU(shorts, levels + i));
    if (raw_bits > 0) {
      const auto code = hn::PromoteTo(di, hn::LoadU(bytes, raw + i));
      whole = hn::Sub(hn::Add(hn::ShiftLeftSame(whole, raw_bits), code), half);
    }
    const auto level = hn::ConvertTo(d, whole);
    const auto exact = hn::Abs(level);
    largest = hn::Max(largest, exact);
    const auto magnitude = hn::Min(exact, lanes.limit);
    const auto sent = hn::CopySign(lanes.ValueOf(magnitude), level);
    const auto is_zero = hn::Eq(magnitude, hn::Zero(d));
    const auto sum = hn::Add(hn::LoadU(d, accumulator + i), hn::IfThenZeroElse(is_zero, sent));
    hn::StoreU(sum, d, accumulator + i);
  }
  const bool possible = hn::GetLane(hn::MaxOfLanes(d, largest)) <= zone.limit;
  const std::uint8_t* raw_left = raw_bits > 0 ? raw + i : raw;
  return scalar::add_levels(levels + i, raw_left, count - i, zone, accumulator + i) && possible;
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(Bins);
HWY_EXPORT(AddAndFindTokens);
HWY_EXPORT(KeepLoss);
HWY_EXPORT(AddLevels);

std::size_t count_magnitudes(const float* values, const float* addend, std::size_t count,
                             std::uint32_t* histogram, std::size_t stride) {
  constexpr std::size_t kBlock = 16 * kSampleRun;
  std::uint32_t bins[kBlock];
  std::uint32_t odd[kMagnitudeBins] = {};  // two counts of a bin do not wait for each other
  const std::size_t run = stride == 1 ? kBlock : kSampleRun;
  const std::size_t end = stride == 1 ? count : count / kSampleRun * kSampleRun;
  std::size_t counted = 0;
  for (std::size_t at = 0; at < end;) {
    std::size_t found = 0;
    for (; found < kBlock && at < end; at += stride * run) {
      const std::size_t length = std::min(run, end - at);
      HWY_DYNAMIC_DISPATCH(Bins)
      (values + at, addend == nullptr ? nullptr : addend + at, length, bins + found);
      found += length;
    }
    std::size_t i = 0;
    for (; i + 2 <= found; i += 2) {
      ++histogram[bins[i]];
      ++odd[bins[i + 1]];
    }
    if (i < found) ++histogram[bins[i]];
    counted += found;
  }
  for (std::size_t bin = 0; bin < kMagnitudeBins; ++bin) histogram[bin] += odd[bin];
  return counted;
}

std::size_t add_and_find_tokens(const float* values, const float* addend, std::size_t count,
                                float* sums, const DeadZone& zone, std::uint32_t* tokens,
                                std::uint8_t* raw) {
  return HWY_DYNAMIC_DISPATCH(AddAndFindTokens)(values, addend, count, sums, zone, tokens, raw);
}

void keep_loss(float* values, std::size_t count, const DeadZone& zone) {
  HWY_DYNAMIC_DISPATCH(KeepLoss)(values, count, zone);
}

bool add_levels(const std::int16_t* levels, const std::uint8_t* raw, std::size_t count,
                const DeadZone& zone, float* accumulator) {
  return HWY_DYNAMIC_DISPATCH(AddLevels)(levels, raw, count, zone, accumulator);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
