#include "src/compressors/entropy_step.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "src/kernels/cast.h"

namespace lgreco {
namespace {

using kernels::kMagnitudeShift;
using kernels::NumberClass;

constexpr std::uint32_t kLargestStep = 0x7E80;    // a quarter of what fp32 holds; exclusive
constexpr double kMany = 0.02, kManySent = 0.25;  // in one bin: of all values, of those sent
constexpr unsigned kMagnitudeClasses = 30;        // of magnitudes up to kLargestLevel

float step_of(std::uint32_t step_bits) {
  return kernels::bf16_value(static_cast<std::uint16_t>(step_bits));
}

double bin_begin(std::size_t bin) {
  if (bin == kernels::kFirstInfiniteBin) return 0x1.0p128;
  return static_cast<double>(
      std::bit_cast<float>(static_cast<std::uint32_t>(bin) << kMagnitudeShift));
}

double bin_middle(std::size_t bin) { return (bin_begin(bin) + bin_begin(bin + 1)) / 2; }

// The shares of the classes of runs, where each number is zero with this probability.
struct RunShares {
  double of[kernels::kRunClasses];
  double extra_bits = 0;

  explicit RunShares(double zero) {
    double power[kernels::kRunClasses / 2 + 1];  // zero to the power 2^i
    power[0] = zero;
    for (std::size_t i = 1; i < std::size(power); ++i) power[i] = power[i - 1] * power[i - 1];
    const auto at_least = [&](unsigned index) {  // the first run of a class
      if (index < 2) return index == 0 ? 1.0 : zero;
      const double octave = power[index / 2];
      return index % 2 == 0 ? octave : octave * power[index / 2 - 1];
    };
    for (unsigned i = 0; i < kernels::kRunClasses; ++i) {
      of[i] = at_least(i) - (i + 1 < kernels::kRunClasses ? at_least(i + 1) : 0.0);
      extra_bits += of[i] * NumberClass::at(i).extra_bits;
    }
  }
};

}  // namespace

bool EntropyHeader::is_valid() const {
  if (bits == 0) return true;
  return step_bits() > 0 && step_bits() < kLargestStep;
}

kernels::DeadZone EntropyHeader::zone(float rounding) const {
  const float step = step_of(step_bits());
  const float most = std::floor(std::numeric_limits<float>::max() / step * 0.999f - 1.0f);
  return {.step = step,
          .rounding = rounding,
          .first = (static_cast<float>(bits >> 4 & 15) - 6) / 16,
          .other = (static_cast<float>(bits & 15) - 8) / 16,
          .limit = std::min(most, static_cast<float>(kernels::kLargestLevel)),
          .raw_bits = raw_bits()};
}

EntropyStep::EntropyStep(std::span<const std::uint32_t> histogram, std::size_t count)
    : EntropyStep(histogram, count, count) {}

EntropyStep::EntropyStep(std::span<const std::uint32_t> histogram, std::size_t sampled,
                         std::size_t count)
    : count_(static_cast<double>(count)), scale_(count_ / static_cast<double>(sampled)) {
  top_ = histogram.size() - 1;
  while (top_ > 0 && histogram[top_] == 0) --top_;
  lowest_ = top_ + 1 > kBins ? top_ + 1 - kBins : 0;
  double sum = 0, squares = 0;
  const double unit = bin_begin(top_ + 1);
  for (std::size_t bin = top_ + 1; bin-- > lowest_;) {
    const double here = scale_ * static_cast<double>(histogram[bin]);
    above_[bin - lowest_] = above_[bin - lowest_ + 1] + here;
    has_ties_ |= bin > 0 && here > kMany * count_;
    const double magnitude = bin_middle(bin) / unit;
    sum += here * magnitude;
    squares += here * magnitude * magnitude;
  }
  const auto bits_above = [](double step) {
    return std::clamp<std::uint32_t>(kernels::bf16_above(static_cast<float>(step)), 1,
                                     kLargestStep);
  };
  coarsest_ = top_ == 0 ? 1 : bits_above(2.5 * unit);
  finest_ = top_ == 0 ? 1 : bits_above(unit / 32000);
  if (squares > 0) mean_over_root_ = sum / std::sqrt(squares * count_);
}

double EntropyStep::above(double magnitude) const {
  if (magnitude >= bin_begin(top_ + 1)) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude));
  const std::size_t bin = bits >> kMagnitudeShift;
  if (bin < lowest_) return above_[0];
  constexpr std::uint32_t kMask = (1u << kMagnitudeShift) - 1;
  const double part = static_cast<double>(bits & kMask) / (1 << kMagnitudeShift);
  const std::size_t i = bin - lowest_;
  return above_[i] + part * (above_[i + 1] - above_[i]);
}

// Zero takes fewest bits, and the more a value is worth, the rarer it is: the lighter the tail, the
// closer to rounding to nearest.
float EntropyStep::rounding_for(double rate) const {
  const double low = std::clamp(0.5 - 1.2 * (0.8 - mean_over_root_), 0.2, 0.5);
  const double near = std::clamp((rate - 2) / 3, 0.0, 1.0);
  const double most = 0.4 + 0.1 * std::clamp(rate - 1, 0.0, 1.0);
  return static_cast<float>(std::min(most, low + (0.5 - low) * near));
}

// Raw bits where zeros are few, unless the values crowd around zero even then. One alone would
// leave more positive levels than negative ones; more than there is room for are of no use.
EntropyStep::Cost EntropyStep::cost_of(float step, double rate) const {
  const float rounding = rounding_for(rate);
  double rest = levels_from(step, rounding, 0, 0);
  if (rest == 0) return {};
  Cost best = cost_with(step, rounding, 0);
  if (rest <= 0.87 * count_) return best;
  constexpr double kFaster = 1.003;  // levels take time, raw bits hardly any
  const double capacity =
      8 * static_cast<double>(entropy_code_bytes(rate, static_cast<std::size_t>(count_)));
  for (int raw_bits = 2; raw_bits < 8 && rest > 0.7 * count_; ++raw_bits) {
    if (raw_bits * count_ > capacity) break;
    const Cost cost = cost_with(step, rounding, raw_bits);
    if (cost.bits < kFaster * best.bits) best = cost;
    rest = levels_from(step, rounding, raw_bits, 0);
  }
  return best;
}

// How many values have a level of a larger magnitude than this.
double EntropyStep::levels_from(float step, float rounding, int raw_bits,
                                std::uint32_t magnitude) const {
  const double zone = raw_bits == 0 ? 1 - static_cast<double>(rounding) : 0.5;
  return above((magnitude + zone) * (1 << raw_bits) * static_cast<double>(step));
}

EntropyStep::Cost EntropyStep::cost_with(float step, float rounding, int raw_bits) const {
  const double levels = levels_from(step, rounding, raw_bits, 0);
  if (levels == 0) return {raw_bits * count_, kernels::kZeroShares - 1, raw_bits};
  const double zero = 1 - levels / count_;
  const RunShares runs(zero);
  double of_class[kMagnitudeClasses];
  double extra_bits = 0, rest = levels;
  unsigned classes = 0;
  for (; classes < kMagnitudeClasses && rest > 0; ++classes) {
    const double next = levels_from(step, rounding, raw_bits, NumberClass::at(classes + 1).first);
    of_class[classes] = (rest - next) / levels;
    extra_bits += of_class[classes] * NumberClass::at(classes).extra_bits;
    rest = next;
  }
  double escaped = 0;
  for (unsigned i = kernels::kLevelClasses; i < classes; ++i) escaped += of_class[i];
  const unsigned with_words = std::min(classes, kernels::kLevelClasses);
  const double plain = levels * (runs.extra_bits + extra_bits + 1) + raw_bits * count_;

  Cost best{std::numeric_limits<double>::infinity(), 0, raw_bits};
  int share = 0;
  while (share + 2 < kernels::kZeroShares && kernels::zero_share_of(share + 1) < zero) ++share;
  for (int shape = 0; shape < kernels::kLevelShapes; ++shape) {
    for (int i = share; i < share + 2; ++i) {
      const int table = shape * kernels::kZeroShares + i;
      const auto& lengths = kernels::run_level_lengths(table);
      double words = escaped * static_cast<double>(lengths.escaped);
      for (unsigned run = 0; run < kernels::kRunClasses && runs.of[run] > 1e-9; ++run) {
        double word = 0;
        for (unsigned level = 0; level < with_words; ++level) {
          word += of_class[level] * static_cast<double>(lengths.bits[run][level]);
        }
        words += runs.of[run] * word;
      }
      const double bits = plain + levels * words;
      if (bits < best.bits) best = {bits, table, raw_bits};
    }
  }
  return best;
}

EntropyHeader EntropyStep::header_of(std::uint32_t step_bits, float rounding,
                                     const Cost& cost) const {
  const double step = static_cast<double>(step_of(step_bits));
  double counts[2] = {}, sums[2] = {};  // of magnitude 1, of others: how far above
  for (std::size_t bin = top_ + 1; bin-- > lowest_;) {
    const double here = above_[bin - lowest_] - above_[bin - lowest_ + 1];
    if (here == 0) continue;
    // Its two ends: values that are alike may lie on either side of a threshold within.
    const double ends[] = {bin_begin(bin + 1) / step, bin_begin(bin) / step};
    if (std::floor(ends[0] + static_cast<double>(rounding)) < 1) break;
    for (const double steps : ends) {
      const double magnitude = std::floor(steps + static_cast<double>(rounding));
      if (magnitude < 1) continue;
      const std::size_t kind = magnitude == 1 ? 0 : 1;
      counts[kind] += here;
      sums[kind] += here * (steps - magnitude);
    }
  }
  const auto offset = [&](std::size_t kind, double least) {
    const double mean = counts[kind] == 0 ? 0 : sums[kind] / counts[kind];
    return static_cast<unsigned>(std::clamp(std::floor(16 * mean + 0.5) - least, 0.0, 15.0));
  };
  return EntropyHeader::of(step_bits, cost.table, cost.raw_bits, offset(0, -6), offset(1, -8));
}

double EntropyStep::capacity_of(double rate) const {
  constexpr double kEnds = 16;
  const double bits =
      8 * static_cast<double>(entropy_code_bytes(rate, static_cast<std::size_t>(count_)));
  // Of the bits of one value, from experience: few values have many, or all have a few.
  const double variance = std::min(6.5 * rate, 2 + 5 / rate);
  const double sample = scale_ == 1 ? 0 : 2 * std::sqrt(variance * scale_ * count_);
  return bits - kEnds - std::sqrt(bits) / 2 - sample;
}

std::uint32_t EntropyStep::choose(double rate, double capacity) const {
  std::uint32_t low = finest_, high = coarsest_;
  while (low < high) {
    const std::uint32_t middle = (low + high) / 2;
    if (cost_of(step_of(middle), rate).bits <= capacity) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return high;
}

EntropyChoice EntropyStep::at(double rate, std::uint32_t step_bits) const {
  if (step_bits == coarsest_) return {};
  const float rounding = rounding_for(rate);
  const Cost cost = cost_of(step_of(step_bits), rate);
  if (cost.bits == 0) return {};
  return {header_of(step_bits, rounding, cost), rounding, cost.bits};
}

EntropyChoice EntropyStep::filling(double rate, double capacity) const {
  constexpr double kEnough = 0.98, kAim = 0.99;
  const std::uint32_t step_bits = choose(rate, capacity);
  EntropyChoice best = at(rate, step_bits);
  if (best.header.bits == 0 || best.header.raw_bits() > 0 || step_bits == finest_) return best;
  const float step = step_of(step_bits);
  // The zone is no narrower than that of the next finer step.
  float narrow = 1 - (1 - best.rounding) * (step_of(step_bits - 1) / step);
  for (int i = 0; i < 8 && best.bits < kEnough * capacity; ++i) {
    const float middle = (best.rounding + narrow) / 2;
    const Cost cost = cost_with(step, middle, 0);
    if (cost.bits <= kAim * capacity) {
      best = {header_of(step_bits, middle, cost), middle, cost.bits};
    } else {
      narrow = middle;
    }
  }
  return best;
}

EntropyChoice EntropyStep::at_without_raw_bits(double rate, std::uint32_t step_bits) const {
  const float rounding = rounding_for(rate);
  const Cost cost = cost_with(step_of(step_bits), rounding, 0);
  return {header_of(step_bits, rounding, cost), rounding, cost.bits};
}

bool EntropyStep::has_ties_at(const EntropyChoice& choice) const {
  if (choice.header.bits == 0) return true;
  const kernels::DeadZone zone = choice.zone();
  const float least = zone.step * (1 - zone.rounding);
  const std::size_t bin = std::bit_cast<std::uint32_t>(least) >> kMagnitudeShift;
  if (bin < lowest_ || bin > top_) return false;
  const std::size_t i = bin - lowest_;
  return above_[i] - above_[i + 1] > kManySent * above_[i];
}

// A bin is four values (the lowest, zeros), unless it is wide enough to hold all fractions of a
// step alike.
double EntropyStep::loss_of(const EntropyChoice& choice) const {
  constexpr int kParts = 4;
  const bool has_step = choice.header.bits != 0;
  const kernels::DeadZone zone = has_step ? choice.zone() : kernels::DeadZone{};
  const auto step = static_cast<double>(zone.step), rounding = static_cast<double>(zone.rounding);
  double loss = 0;
  for (std::size_t bin = top_ + 1; bin-- > lowest_;) {
    const double here = above_[bin - lowest_] - above_[bin - lowest_ + 1];
    if (here == 0 || bin == 0) continue;
    const double begin = bin_begin(bin), width = bin_begin(bin + 1) - begin;
    if (has_step && 2 * width > step) {
      loss += here * step * step / 12;
      continue;
    }
    for (int part = 0; part < kParts; ++part) {
      const double value = begin + (part + 0.5) / kParts * width;
      const double magnitude = has_step ? std::floor(value / step + rounding) : 0;
      const double offset = static_cast<double>(magnitude == 1 ? zone.first : zone.other);
      const double sent = magnitude == 0 ? 0 : (magnitude + offset) * step;
      loss += here / kParts * (value - sent) * (value - sent);
    }
  }
  return loss;
}

}  // namespace lgreco
