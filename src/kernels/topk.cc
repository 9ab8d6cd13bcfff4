#include "src/kernels/topk.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "hwy/cache_control.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/topk.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef LGRECO_TOPK_WINDOW  // this file is read once for each target
#define LGRECO_TOPK_WINDOW
namespace lgreco::kernels {

// Two magnitudes, low <= high, between which the threshold probably lies, and how many values there
// are of which. Those of one magnitude may be too many to collect, as zeros often are; they are
// counted, since `low` or `high` is then theirs.
struct Window {
  std::uint32_t low;
  std::uint32_t high;
  std::size_t above = 0;
  std::size_t at_high = 0;
  std::size_t between = 0;
  std::size_t at_low = 0;  // unless low == high
};

}  // namespace lgreco::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Words = hn::ScalableTag<std::int32_t>;  // a magnitude has no sign bit
constexpr std::size_t kRun = TopKCandidates::kRun;
constexpr std::size_t kAhead = 512;  // values, also of the next block

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

// Calls `visit(at, length)` for each run of a block that is marked.
template <typename Visit>
void ForEachRun(std::uint64_t runs, std::size_t count, const Visit& visit) {
  for (; runs != 0; runs &= runs - 1) {
    const std::size_t at = kRun * static_cast<std::size_t>(std::countr_zero(runs));
    if (at >= count) return;
    visit(at, count - at < kRun ? count - at : kRun);
  }
}

// sums = values + addend, or values where nothing is added. Returns the marks of the runs of which
// a sum has `low` or more, and raises `largest` to the largest magnitude.
template <bool kAdds>
std::uint64_t AddAndMarkBlock(const float* values, const float* addend, std::size_t count,
                              std::uint32_t low, float* sums, std::uint32_t& largest) {
  const Words d;
  const hn::RebindToFloat<Words> df;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto below = hn::Set(d, static_cast<std::int32_t>(low) - 1);
  auto largest_of_block = hn::Zero(d);
  std::uint64_t runs = 0, run = 1;
  std::size_t i = 0;
  for (; i + kRun <= count; run <<= 1) {
    auto largest_of_run = hn::Zero(d);
    for (std::size_t end = i + kRun; i < end; i += lanes) {
      auto value = hn::LoadU(df, values + i);
      hwy::Prefetch(values + i + kAhead);
      if constexpr (kAdds) {
        hwy::Prefetch(addend + i + kAhead);
        value = hn::Add(value, hn::LoadU(df, addend + i));
        hn::StoreU(value, df, sums + i);
      }
      largest_of_run = hn::Max(largest_of_run, hn::And(hn::BitCast(d, value), magnitudes));
    }
    largest_of_block = hn::Max(largest_of_block, largest_of_run);
    runs |= hn::AllFalse(d, hn::Gt(largest_of_run, below)) ? 0 : run;
  }
  const auto raise = [&](std::uint32_t magnitude) {
    largest = magnitude > largest ? magnitude : largest;
  };
  raise(static_cast<std::uint32_t>(hn::GetLane(hn::MaxOfLanes(d, largest_of_block))));
  for (; i < count; ++i) {
    float value = values[i];
    if constexpr (kAdds) sums[i] = value += addend[i];
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu;
    raise(magnitude);
    runs |= magnitude >= low ? run : 0;
  }
  return runs;
}

// The same; `addend` may be nullptr, and then `sums` is not written.
std::uint64_t AddAndMark(const float* values, const float* addend, std::size_t count,
                         std::uint32_t low, float* sums, std::uint32_t& largest) {
  return addend == nullptr ? AddAndMarkBlock<false>(values, addend, count, low, sums, largest)
                           : AddAndMarkBlock<true>(values, addend, count, low, sums, largest);
}

// Counts the values of the marked runs in `window` and appends those between to `between`, which
// has room for `count` and a vector more.
void CountAndCollect(const float* values, std::size_t count, std::uint64_t runs, Window& window,
                     float* between) {
  const Words d;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto low = hn::Set(d, static_cast<std::int32_t>(window.low));
  const auto high = hn::Set(d, static_cast<std::int32_t>(window.high));
  const auto* words = reinterpret_cast<const std::int32_t*>(values);
  auto* out = reinterpret_cast<std::int32_t*>(between);
  Window counts = window;
  ForEachRun(runs, count, [&](std::size_t at, std::size_t length) {
    std::size_t i = at;
    for (; i + lanes <= at + length; i += lanes) {
      const auto magnitude = hn::And(hn::LoadU(d, words + i), magnitudes);
      const auto is_at_high = hn::Eq(magnitude, high);
      const auto is_between = hn::And(hn::Gt(magnitude, low), hn::Lt(magnitude, high));
      counts.above += hn::CountTrue(d, hn::Gt(magnitude, high));
      counts.at_high += hn::CountTrue(d, is_at_high);
      counts.at_low += hn::CountTrue(d, hn::AndNot(is_at_high, hn::Eq(magnitude, low)));
      // Not CompressStore, whose instruction for memory is slow on some CPUs.
      hn::StoreU(hn::Compress(magnitude, is_between), d, out + counts.between);
      counts.between += hn::CountTrue(d, is_between);
    }
    for (; i < at + length; ++i) {
      const std::uint32_t magnitude = static_cast<std::uint32_t>(words[i]) & 0x7FFFFFFFu;
      if (magnitude > counts.high) {
        ++counts.above;
      } else if (magnitude == counts.high) {
        ++counts.at_high;
      } else if (magnitude > counts.low) {
        between[counts.between++] = std::bit_cast<float>(magnitude);
      } else if (magnitude == counts.low) {
        ++counts.at_low;
      }
    }
  });
  window = counts;
}

std::size_t SelectBlock(const float* values, std::size_t count, std::uint64_t runs,
                        TopKThreshold& threshold, std::uint32_t* indices) {
  const Words d;
  const hn::RebindToUnsigned<Words> du;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto limit = hn::Set(d, static_cast<std::int32_t>(threshold.magnitude));
  const auto first = hn::Iota(du, 0);
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
  ForEachRun(runs, count, [&](std::size_t at, std::size_t length) {
    std::size_t i = at;
    for (; i + lanes <= at + length; i += lanes) {
      const auto magnitude = hn::And(hn::LoadU(d, words + i), magnitudes);
      const auto is_tie = hn::Eq(magnitude, limit);
      auto is_kept = hn::Gt(magnitude, limit);
      if (!hn::AllFalse(d, is_tie) && threshold.ties > 0) {
        const std::size_t ties = hn::CountTrue(d, is_tie);
        if (ties > threshold.ties) {  // the last ones end within this vector
          for (std::size_t lane = 0; lane < lanes; ++lane) visit(i + lane);
          continue;
        }
        threshold.ties -= ties;
        is_kept = hn::Or(is_kept, is_tie);
      }
      const auto index = hn::Add(first, hn::Set(du, static_cast<std::uint32_t>(i)));
      // A whole vector is written; written <= i, so it ends within `indices`.
      hn::StoreU(hn::Compress(index, hn::RebindMask(du, is_kept)), du, indices + written);
      written += hn::CountTrue(d, is_kept);
    }
    for (; i < at + length; ++i) visit(i);
  });
  return written;
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {
namespace {

HWY_EXPORT(AddAndMark);
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
constexpr std::size_t kLeastSampled = std::size_t{1} << 14;  // pays from here on
constexpr std::size_t kLine = 16;  // neighbours in the sample: a line of cache
constexpr std::size_t kBlock = TopKCandidates::kBlock;
constexpr std::uint32_t kInfinity = 0x7F800000;
constexpr std::uint32_t kLargest = 0x7FFFFFFF;

// From a sixteenth of the values or kRoom, the fewer, at equal distances. `sample` has room for
// kRoom. REQUIRES: count >= kLeastSampled.
Window guess_window(const float* values, const float* addend, std::size_t count, std::size_t k,
                    float* sample) {
  const std::size_t lines = std::min(kRoom, count / 16) / kLine;
  const std::size_t sampled = lines * kLine;
  for (std::size_t line = 0; line < lines; ++line) {
    const std::size_t at = count / lines * line;
    for (std::size_t i = 0; i < kLine; ++i) {
      sample[line * kLine + i] =
          addend == nullptr ? values[at + i] : values[at + i] + addend[at + i];
    }
  }
  const double share = static_cast<double>(k) / static_cast<double>(count);
  const double expected = share * static_cast<double>(sampled);
  // A wide window is missed by few, but has to have room.
  const double error = std::sqrt(expected * (1 - share));
  const double fits = 0.45 * kRoom * static_cast<double>(sampled) / static_cast<double>(count);
  const double margin = std::min(5 * error + 5, std::max(1.5 * error, fits));
  const auto magnitude = [&](double rank) {
    return find_by_digits(sample, sampled, static_cast<std::size_t>(rank)).magnitude;
  };
  return {
      .low = expected + margin < static_cast<double>(sampled) ? magnitude(expected + margin) : 0,
      .high = expected - margin < 1 ? kLargest : magnitude(expected - margin)};
}

// From what one pass counted and collected; false when that does not tell.
bool find_in_window(const Window& window, const float* between, std::size_t k,
                    TopKThreshold& threshold) {
  if (window.between > kRoom || k <= window.above) return false;
  std::uint64_t wanted = k - window.above;
  if (wanted <= window.at_high) {
    threshold = {.magnitude = window.high, .ties = wanted};
    return true;
  }
  wanted -= window.at_high;
  if (wanted <= window.between) {
    threshold = find_by_digits(between, window.between, wanted);
    return true;
  }
  threshold = {.magnitude = window.low, .ties = wanted - window.between};
  return threshold.ties <= window.at_low;
}

// Of `values` + `addend`, which it writes to `sums`, or of `values` where `addend` is nullptr.
// False when one is not finite.
bool find(const float* values, const float* addend, std::size_t count, std::size_t k, float* sums,
          TopKThreshold& threshold, TopKCandidates& candidates) {
  float between[kRoom + kBlock + kLine];
  const bool is_sampled = count >= kLeastSampled;
  Window window = is_sampled ? guess_window(values, addend, count, k, between) : Window{0, 0};
  const float* final = addend == nullptr ? values : sums;
  std::uint32_t largest = 0;
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t length = std::min(kBlock, count - at);
    const float* block_addend = addend == nullptr ? nullptr : addend + at;
    float* block_sums = addend == nullptr ? nullptr : sums + at;
    const std::uint64_t runs = HWY_DYNAMIC_DISPATCH(AddAndMark)(values + at, block_addend, length,
                                                                window.low, block_sums, largest);
    candidates.mark(at / kBlock, runs);
    if (!is_sampled || window.between > kRoom) continue;
    HWY_DYNAMIC_DISPATCH(CountAndCollect)(final + at, length, runs, window, between);
  }
  if (!find_in_window(window, between, k, threshold)) threshold = find_by_digits(final, count, k);
  if (threshold.magnitude < window.low) candidates.mark_all();
  return largest < kInfinity;
}

}  // namespace

TopKCandidates::TopKCandidates(std::size_t count) : blocks_((count + kBlock - 1) / kBlock) {
  while (blocks_ > kWords << shift_) ++shift_;
  std::fill_n(words_, ((blocks_ - 1) >> shift_) + 1, std::uint64_t{0});
}

void TopKCandidates::mark(std::size_t block, std::uint64_t runs) {
  words_[block >> shift_] |= std::popcount(runs) > kSparse ? kAllRuns : runs;
}

void TopKCandidates::mark_all() {
  for (std::size_t block = 0; block < blocks_; ++block) mark(block, kAllRuns);
}

void TopKCandidates::prefetch(const float* values, std::size_t block) const {
  if (block >= blocks_) return;
  const float* block_values = values + block * kBlock;
  for (std::uint64_t rest = runs(block); rest != 0; rest &= rest - 1) {
    const float* run = block_values + kRun * static_cast<std::size_t>(std::countr_zero(rest));
    for (std::size_t i = 0; i < kRun; i += kLine) hwy::Prefetch(run + i);
  }
}

bool add_and_find_threshold(const float* addend, std::size_t count, std::size_t k, float* values,
                            TopKThreshold& threshold, TopKCandidates& candidates) {
  return find(values, addend, count, k, values, threshold, candidates);
}

TopKThreshold find_threshold(const float* values, std::size_t count, std::size_t k,
                             TopKCandidates& candidates) {
  TopKThreshold threshold;
  find(values, nullptr, count, k, nullptr, threshold, candidates);
  return threshold;
}

std::size_t select_block(const float* values, std::size_t count, std::uint64_t runs,
                         TopKThreshold& threshold, std::uint32_t* indices) {
  return HWY_DYNAMIC_DISPATCH(SelectBlock)(values, count, runs, threshold, indices);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
