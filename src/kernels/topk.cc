#include "src/kernels/topk.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "src/kernels/elementwise.h"
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
    const std::size_t found = hn::CountTrue(d, is_member);
    hn::StoreU(hn::Compress(magnitude, is_member), d, members);
    for (std::size_t m = 0; m < found; ++m) {
      ++histogram[(static_cast<std::uint32_t>(members[m]) >> shift) & mask];
    }
  }
  for (; i < count; ++i) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(words[i]) & 0x7FFFFFFFu;
    if (magnitude >> group_shift == group) ++histogram[(magnitude >> shift) & mask];
  }
}

// Appends to `between` the magnitudes of [low, high] and returns how many are above. `between` has
// room for `count` and a vector more.
std::size_t CountAndCollect(const float* values, std::size_t count, std::uint32_t low,
                            std::uint32_t high, float* between, std::size_t& collected) {
  const Words d;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto below = hn::Set(d, static_cast<std::int32_t>(low) - 1);
  const auto highs = hn::Set(d, static_cast<std::int32_t>(high));
  const auto* words = reinterpret_cast<const std::int32_t*>(values);
  auto* out = reinterpret_cast<std::int32_t*>(between);
  std::size_t above = 0, written = collected;
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto magnitude = hn::And(hn::LoadU(d, words + i), magnitudes);
    const auto is_above = hn::Gt(magnitude, highs);
    const auto is_between = hn::AndNot(is_above, hn::Gt(magnitude, below));
    above += hn::CountTrue(d, is_above);
    // Not CompressStore, whose instruction for memory is slow on some CPUs.
    hn::StoreU(hn::Compress(magnitude, is_between), d, out + written);
    written += hn::CountTrue(d, is_between);
  }
  for (; i < count; ++i) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(words[i]) & 0x7FFFFFFFu;
    above += magnitude > high ? 1 : 0;
    if (magnitude >= low && magnitude <= high) between[written++] = std::bit_cast<float>(magnitude);
  }
  collected = written;
  return above;
}

std::size_t SelectBlock(const float* values, std::size_t count, TopKThreshold& threshold,
                        std::uint32_t* indices) {
  const Words d;
  const hn::RebindToUnsigned<Words> du;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto limit = hn::Set(d, static_cast<std::int32_t>(threshold.magnitude));
  const auto* words = reinterpret_cast<const std::int32_t*>(values);
  const auto step = hn::Set(du, static_cast<std::uint32_t>(lanes));
  auto index = hn::Iota(du, 0);
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
    auto is_kept = is_above;
    if (!hn::AllFalse(d, is_tie) && threshold.ties > 0) {
      const std::size_t ties = hn::CountTrue(d, is_tie);
      if (ties > threshold.ties) {  // the last ones end within this vector
        for (std::size_t lane = 0; lane < lanes; ++lane) visit(i + lane);
        index = hn::Add(index, step);
        continue;
      }
      threshold.ties -= ties;
      is_kept = hn::Or(is_above, is_tie);
    }
    // A whole vector is written; written <= i, so it ends within `indices`.
    hn::StoreU(hn::Compress(index, hn::RebindMask(du, is_kept)), du, indices + written);
    written += hn::CountTrue(d, is_kept);
    index = hn::Add(index, step);
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
HWY_EXPORT(CountAndCollect);
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

// Digit by digit: exact, whatever the values are.
TopKThreshold find_by_digits(const float* values, std::size_t count, std::size_t k) {
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

constexpr std::size_t kRoom = std::size_t{1} << 16;  // sampled or collected magnitudes at once
constexpr std::size_t kRun = 16;                     // neighbours in the sample: a line of cache
constexpr std::size_t kBlock = 2048;                 // stays in the innermost cache
constexpr std::uint32_t kLargest = 0x7FFFFFFF;

// Magnitudes between which the threshold probably lies, both included.
struct Window {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
};

// From kRoom values at equal distances, which `sample` has room for. REQUIRES: count >= kRoom.
Window guess_window(const float* values, const float* addend, std::size_t count, std::size_t k,
                    float* sample) {
  const std::size_t runs = kRoom / kRun;
  for (std::size_t run = 0; run < runs; ++run) {
    const std::size_t at = count / runs * run;
    for (std::size_t i = 0; i < kRun; ++i) {
      sample[run * kRun + i] = addend == nullptr ? values[at + i] : values[at + i] + addend[at + i];
    }
  }
  const double share = static_cast<double>(k) / static_cast<double>(count);
  const double expected = share * kRoom;
  const double margin = 5 * std::sqrt(expected * (1 - share)) + 5;  // standard errors
  const auto rank = [](double wanted) {
    return static_cast<std::size_t>(std::clamp(wanted, 1.0, static_cast<double>(kRoom)));
  };
  const auto magnitude = [&](double wanted) {
    return find_by_digits(sample, kRoom, rank(wanted)).magnitude;
  };
  return {.low = expected + margin >= kRoom ? 0 : magnitude(expected + margin),
          .high = expected - margin < 1 ? kLargest : magnitude(expected - margin)};
}

// `prepare(at, length)` makes a block of `values` final, `values` + `addend` (nullptr: nothing),
// and returns false to give up.
template <typename Prepare>
bool find(const float* values, const float* addend, std::size_t count, std::size_t k,
          const Prepare& prepare, TopKThreshold& threshold) {
  if (count < kRoom) {
    if (!prepare(0, count)) return false;
    threshold = find_by_digits(values, count, k);
    return true;
  }
  float between[kRoom + kBlock + kRun];
  const Window window = guess_window(values, addend, count, k, between);
  std::size_t above = 0, collected = 0;
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t length = std::min(kBlock, count - at);
    if (!prepare(at, length)) return false;
    if (collected > kRoom) continue;
    above += HWY_DYNAMIC_DISPATCH(CountAndCollect)(values + at, length, window.low, window.high,
                                                   between, collected);
  }
  const bool is_inside = above < k && k <= above + collected && collected <= kRoom;
  threshold =
      is_inside ? find_by_digits(between, collected, k - above) : find_by_digits(values, count, k);
  return true;
}

}  // namespace

bool add_and_find_threshold(const float* addend, std::size_t count, std::size_t k, float* values,
                            TopKThreshold& threshold) {
  const auto add_block = [&](std::size_t at, std::size_t length) {
    return addend == nullptr ? all_finite(values + at, length)
                             : add_finite(values + at, addend + at, length, values + at);
  };
  return find(values, addend, count, k, add_block, threshold);
}

TopKThreshold find_threshold(const float* values, std::size_t count, std::size_t k) {
  TopKThreshold threshold;
  find(
      values, nullptr, count, k, [](std::size_t, std::size_t) { return true; }, threshold);
  return threshold;
}

std::size_t select_block(const float* values, std::size_t count, TopKThreshold& threshold,
                         std::uint32_t* indices) {
  return HWY_DYNAMIC_DISPATCH(SelectBlock)(values, count, threshold, indices);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
