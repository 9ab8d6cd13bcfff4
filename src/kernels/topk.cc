#include "src/kernels/topk.h"

#include <algorithm>
#include <bit>

#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/topk.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Words = hn::ScalableTag<std::int32_t>;  // a magnitude has no sign bit

// Of the magnitudes m with m >> group_shift == group, counts the values of (m >> shift) & mask.
void CountInGroup(const float* values, std::size_t count, int group_shift, std::uint32_t group,
                  int shift, std::uint32_t mask, std::uint64_t* histogram) {
  const Words d;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto groups = hn::Set(d, static_cast<std::int32_t>(group));
  const auto* words = reinterpret_cast<const std::int32_t*>(values);
  HWY_ALIGN std::int32_t members[hn::MaxLanes(d)];
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto magnitude = hn::And(hn::LoadU(d, words + i), magnitudes);
    const auto is_member = hn::Eq(hn::ShiftRightSame(magnitude, group_shift), groups);
    if (hn::AllFalse(d, is_member)) continue;  // nearly always
    const std::size_t found = hn::CompressStore(magnitude, is_member, d, members);
    for (std::size_t m = 0; m < found; ++m) {
      ++histogram[(static_cast<std::uint32_t>(members[m]) >> shift) & mask];
    }
  }
  for (; i < count; ++i) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(words[i]) & 0x7FFFFFFFu;
    if (magnitude >> group_shift == group) ++histogram[(magnitude >> shift) & mask];
  }
}

std::size_t SelectBlock(const float* values, std::size_t count, TopKThreshold& threshold,
                        std::uint32_t* indices) {
  const Words d;
  const hn::RebindToUnsigned<Words> du;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto limit = hn::Set(d, static_cast<std::int32_t>(threshold.magnitude));
  const auto* words = reinterpret_cast<const std::int32_t*>(values);
  std::size_t written = 0;
  const auto visit = [&](std::size_t i) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(words[i]) & 0x7FFFFFFFu;
    const bool tie = magnitude == threshold.magnitude && threshold.ties > 0;
    threshold.ties -= tie ? 1 : 0;
    if (tie || magnitude > threshold.magnitude) {
      indices[written++] = static_cast<std::uint32_t>(i);
    }
  };
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto magnitude = hn::And(hn::LoadU(d, words + i), magnitudes);
    const auto is_above = hn::Gt(magnitude, limit);
    const auto is_tie = hn::Eq(magnitude, limit);
    const auto is_either = hn::Or(is_above, is_tie);
    if (hn::AllFalse(d, is_either)) continue;  // nearly always
    const std::size_t ties = hn::CountTrue(d, is_tie);
    if (ties > threshold.ties && threshold.ties > 0) {  // the last ties end within this vector
      for (std::size_t lane = 0; lane < lanes; ++lane) visit(i + lane);
      continue;
    }
    const auto is_kept = threshold.ties > 0 ? is_either : is_above;
    if (threshold.ties > 0) threshold.ties -= ties;
    // CompressStore may write a whole vector; written <= i, so it ends within `indices`.
    written += hn::CompressStore(hn::Iota(du, static_cast<std::uint32_t>(i)),
                                 hn::RebindMask(du, is_kept), du, indices + written);
  }
  for (; i < count; ++i) visit(i);
  return written;
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {
namespace {

HWY_EXPORT(CountInGroup);
HWY_EXPORT(SelectBlock);

// The 31 bits of a magnitude are found from the top, in three digits.
constexpr int kFirstShift = 20;  // exponent and three bits of the mantissa: 2048 bins
constexpr int kSecondShift = 10;
constexpr std::uint32_t kDigitMask = 1023;
constexpr std::size_t kBins = std::size_t{1} << (31 - kFirstShift);

struct Histogram {
  std::uint64_t bins[kBins] = {};
};

std::size_t first_digit(float value) {
  return (std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu) >> kFirstShift;
}

// Neighbours often fall into one bin; four counts of each bin keep them from waiting for another.
void count_first_digits(const float* values, std::size_t count, Histogram& histogram) {
  constexpr std::size_t kChunk = std::size_t{1} << 30;  // a 32-bit count cannot overflow
  for (std::size_t at = 0; at < count; at += kChunk) {
    const std::size_t length = std::min(kChunk, count - at);
    std::uint32_t bins[4][kBins] = {};
    const float* chunk = values + at;
    std::size_t i = 0;
    for (; i + 4 <= length; i += 4) {
      for (std::size_t k = 0; k < 4; ++k) ++bins[k][first_digit(chunk[i + k])];
    }
    for (; i < length; ++i) ++bins[0][first_digit(chunk[i])];
    for (std::size_t bin = 0; bin < kBins; ++bin) {
      for (const auto& counts : bins) histogram.bins[bin] += counts[bin];
    }
  }
}

// The bin that holds the `wanted`-th largest. Leaves in `wanted` how many of that bin are kept.
std::uint32_t find_bin(const Histogram& histogram, std::uint64_t& wanted) {
  std::size_t bin = kBins - 1;
  while (histogram.bins[bin] < wanted) wanted -= histogram.bins[bin--];
  return static_cast<std::uint32_t>(bin);
}

}  // namespace

TopKThreshold find_threshold(const float* values, std::size_t count, std::size_t k) {
  std::uint64_t wanted = k;
  Histogram first, second, third;
  count_first_digits(values, count, first);
  std::uint32_t prefix = find_bin(first, wanted);
  HWY_DYNAMIC_DISPATCH(CountInGroup)
  (values, count, kFirstShift, prefix, kSecondShift, kDigitMask, second.bins);
  prefix = (prefix << 10) | find_bin(second, wanted);
  HWY_DYNAMIC_DISPATCH(CountInGroup)
  (values, count, kSecondShift, prefix, 0, kDigitMask, third.bins);
  prefix = (prefix << 10) | find_bin(third, wanted);
  return {.magnitude = prefix, .ties = wanted};
}

std::size_t select_block(const float* values, std::size_t count, TopKThreshold& threshold,
                         std::uint32_t* indices) {
  return HWY_DYNAMIC_DISPATCH(SelectBlock)(values, count, threshold, indices);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
