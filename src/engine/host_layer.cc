#include "src/engine/host_layer.h"

#include <algorithm>
#include <limits>

#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

void read_16_bit(const void* data, DType dtype, std::span<float> values) {
  const auto* halves = static_cast<const std::uint16_t*>(data);
  if (dtype == DType::bf16) {
    kernels::from_bf16(halves, values.size(), values.data());
  } else {
    kernels::from_f16(halves, values.size(), values.data());
  }
}

void write_16_bit(std::span<const float> values, DType dtype, void* data) {
  auto* halves = static_cast<std::uint16_t*>(data);
  if (dtype == DType::bf16) {
    kernels::to_bf16(values.data(), values.size(), halves);
  } else {
    kernels::to_f16(values.data(), values.size(), halves);
  }
}

float largest_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return std::numeric_limits<float>::max();
    case DType::bf16:
      return 0x1.FEp127f;
    case DType::f16:
      return 65504.0f;
  }
  return 0;
}

float max_magnitude(std::span<const float> values) {
  return kernels::max_magnitude(values.data(), values.size());
}

bool all_finite(std::span<const float> values) {
  return kernels::all_finite(values.data(), values.size());
}

void fill(std::span<float> values, float value) { std::fill(values.begin(), values.end(), value); }

// A residual of so many times the gradient is worth a notice.
constexpr float kMany = 100;

// What an average lacks of a value fits into a float when neither is larger.
constexpr float kLargestToKeep = std::numeric_limits<float>::max() / 2;

// Large values make a large last factor, unless they cancel out: only then it is worth looking at
// all of them. Where the residual is what the own factors lack, rounding may have doubled these.
bool loss_will_fit(std::span<const float> values, const LinearCompressor& linear,
                   std::span<const std::span<float>> factors, std::span<const float> own) {
  constexpr float kSuspicious = 0x1p100f;
  return (max_magnitude(factors.back()) < kSuspicious || max_magnitude(values) <= kLargestToKeep) &&
         (own.empty() || 2 * linear.result_bound(factors) <= kLargestToKeep);
}

void add(std::span<const float> a, std::span<const float> b, std::span<float> sum) {
  kernels::add(a.data(), b.data(), sum.size(), sum.data());
}

void add_to_interval(LayerRecord& record, std::span<const float> average) {
  add(record.interval_sum, average, record.interval_sum);
}

}  // namespace

HostLayer::HostLayer(LayerRecord& record, const HostSettings& settings, Presence& presence)
    : record_(record), settings_(settings), presence_(presence) {
  const std::size_t count = record.shape.count();
  if (!is_fp32()) {
    wide_.resize(2 * count);
    values_ = std::span(wide_).first(count);
    result_ = std::span(wide_).last(count);
  }
  if (!is_linear()) return;
  const std::size_t first = record.summed_floats(0), last = record.summed_floats(rounds() - 1);
  const std::size_t both = rounds() == 2 ? first + last : first;
  const std::size_t own = settings.error_feedback && record.keeps_own_part() ? last : 0;
  factor_memory_.resize(both + own);
  factors_ = {std::span(factor_memory_).first(first),
              std::span(factor_memory_).subspan(first, both - first)};
  own_ = std::span(factor_memory_).last(own);
}

Addend HostLayer::addend(int round) const {
  const auto at = static_cast<std::size_t>(round);
  return {.vector = {record_.summed_floats(round), record_.codecs(round), record_.owners[at]},
          .layer = record_.id,
          .name = record_.spec.name,
          .values = factors_[at]};
}

void HostLayer::join(std::span<const std::unique_ptr<Sum>> sums, std::size_t index) {
  sums_ = sums;
  index_ = index;
}

Addend& HostLayer::joined(int round) {
  return sums_[static_cast<std::size_t>(round)]->addends()[index_];
}

std::span<const std::span<float>> HostLayer::means() const {
  return std::span(factors_).first(static_cast<std::size_t>(rounds()));
}

void HostLayer::start(const Gradient& gradient) {
  gradient_ = gradient;
  findings_ = {};
  presence_ = gradient.present ? Presence::present : Presence::absent;
  if (is_fp32()) values_ = {static_cast<float*>(gradient.data), record_.shape.count()};
  if (!is_linear()) joined(0).values = values_;
}

// Takes all the memory that committing the step will need: from there on nothing may fail.
void HostLayer::load(const StepContext& context) {
  key_ = {settings_.seed, context.step, record_.id};
  if (!gradient_.present) {
    fill(values_, 0.0f);
  } else if (!is_fp32()) {
    read_16_bit(gradient_.data, record_.spec.dtype, values_);
  }
  largest_gradient_ = context.compare_parameters ? max_magnitude(values_) : 0;
  findings_.has_gradient = largest_gradient_ != 0;
  // The residual is best added while encoding, in one pass. Not where the sum itself is needed
  // before, for the window, or where the residual cannot be read as floats.
  const bool sum_is_needed = !is_linear() && collects_window(context);
  std::span<const float> residual;  // left to be added while encoding
  if (settings_.error_feedback) {
    residual = record_.residual.floats();
    if (sum_is_needed || residual.empty()) {
      record_.residual.add_to(values_);
      residual = {};
    }
    if (record_.level.method != Method::dense) record_.residual.reserve(values_.size());
  }
  bool finite;
  if (is_linear()) {
    finite = encode_first_factor(residual);
  } else {
    joined(0).residual = residual;
    finite = !sum_is_needed || all_finite(values_);
  }
  if (!finite) {
    presence_ = Presence::non_finite;
    fill(values_, 0.0f);
  }
  if (collects_window(context)) {
    record_.window.resize(values_.size());
    record_.pending_window.resize(values_.size());
    add(record_.window, values_, record_.pending_window);
  }
  if (context.sum_averages) record_.interval_sum.resize(values_.size());
  if (settings_.keep_previous) {
    record_.reserve_previous(settings_.error_feedback ? values_.size() : 0);
  }
}

// A factor that overflows makes its layer non-finite, and so do values from which the loss may:
// once the averages are known, it would be too late to tell the others.
bool HostLayer::encode_first_factor(std::span<const float> residual) {
  const bool fits = record_.linear->encode_first_round(values_, residual, record_.shape, key_,
                                                       record_.linear_state, factors_[0]) &&
                    (rounds() == 2 || loss_will_fit(values_, *record_.linear, means(), own_));
  if (!fits) fill(factors_[0], 0.0f);
  if (rounds() == 1) std::copy_n(factors_[0].begin(), own_.size(), own_.begin());
  return fits;
}

void HostLayer::encode_second_round() {
  const std::span<float> factor = factors_[1];
  if (presence_ != Presence::non_finite) {
    record_.linear->encode_round(1, values_, record_.shape, key_, record_.linear_state,
                                 std::span(factors_).first(1), factor);
    std::copy_n(factor.begin(), own_.size(), own_.begin());
    if (all_finite(factor) && loss_will_fit(values_, *record_.linear, means(), own_)) return;
  }
  presence_ = Presence::non_finite;
  fill(factor, 0.0f);
}

void HostLayer::leave_out_if_non_finite() {
  for (int round = 0; round < rounds(); ++round) {
    joined(round).takes_part = presence_ != Presence::non_finite;
    joined(round).overflowed = false;
  }
}

void HostLayer::take_over_overflow() {
  for (int round = 0; round < rounds(); ++round) {
    if (joined(round).overflowed) presence_ = Presence::non_finite;
  }
}

// Before the step is committed, since an average may be too large: an overflow. Of a linear layer
// the average itself is not made for that, the bound of its factors is enough. Until the last mean
// is taken, what encoding the own factor lost is in its place.
void HostLayer::check(const MessageBodies& gather) {
  if (presence_ == Presence::non_finite) return;
  if (is_linear()) {
    kernels::subtract(own_.data(), means().back().data(), own_.size(), own_.data());
    sums_.back()->decode_into(index_, gather, means().back());
    const double bound = record_.linear->result_bound(means());
    if (!(bound <= kLargestToKeep)) presence_ = Presence::non_finite;  // NaN: not known
  }
  if (is_fp32() || presence_ != Presence::present) return;
  decode(gather, result_);
  if (max_magnitude(result_) > largest_of(record_.spec.dtype)) presence_ = Presence::non_finite;
}

void HostLayer::finish(const StepContext& context, const MessageBodies& gather, bool committed) {
  if (presence_ == Presence::present) {
    if (!is_fp32()) write_16_bit(result_, record_.spec.dtype, gradient_.data);
    if (committed) {
      commit(context, gather);
    } else if (is_fp32()) {
      decode(gather, values_);
    }
    return;
  }
  const bool absent = presence_ == Presence::absent;
  // A residual near the limits of the type may overflow with any gradient, and would in every step
  // to come. A gradient that is not finite tells nothing against it.
  if (!absent && record_.residual.clear_beyond(largest_of(record_.spec.dtype) / 2)) {
    ++findings_.dropped_residuals;
  }
  fill(values_, absent ? 0.0f : std::numeric_limits<float>::quiet_NaN());
  if (!is_fp32()) write_16_bit(values_, record_.spec.dtype, gradient_.data);
}

void HostLayer::decode(const MessageBodies& gather, std::span<float> result) const {
  if (is_linear()) {
    record_.linear->decode(record_.shape, key_, means(), result);
  } else {
    sums_[0]->decode_into(index_, gather, result);
  }
}

void HostLayer::commit(const StepContext& context, const MessageBodies& gather) {
  if (settings_.keep_previous) {
    record_.keep_previous(context.step + 1, collects_window(context), context.sum_averages);
  }
  if (collects_window(context)) {
    record_.window.swap(record_.pending_window);
    ++record_.window_steps;
  }
  // The residual of 16 bits is made in the memory of the average, that of fp32 before there is one.
  if (context.sum_averages && !is_fp32()) add_to_interval(record_, result_);
  if (!is_fp32()) {
    keep_16_bit_residual();
  } else if (record_.level.method == Method::dense) {
    record_.residual.clear();  // everything was sent
    decode(gather, values_);
  } else if (settings_.error_feedback) {
    keep_residual(gather);
  } else {
    decode(gather, values_);
  }
  if (context.sum_averages && is_fp32()) add_to_interval(record_, values_);
  if (is_linear()) {
    record_.linear->commit(record_.shape, key_, means(), record_.linear_state);
  }
  // The sign of averages that nobody applies, or applies twice.
  findings_.has_large_residual =
      largest_gradient_ != 0 && record_.residual.max_magnitude() > kMany * largest_gradient_;
}

// Leaves the average in `values_`.
void HostLayer::keep_residual(const MessageBodies& gather) {
  if (is_linear()) {
    const std::span<float> in_place = record_.residual.overwrite(values_.size());
    const std::span<float> loss = in_place.empty() ? values_ : in_place;
    const std::span<const float> own = own_.empty() ? means().back() : own_;
    record_.linear->decode_keep_loss(record_.shape, key_, means(), own, values_, loss);
    if (!in_place.empty()) return;
  }
  record_.residual.keep(values_, key_);
  decode(gather, values_);
}

// A 16-bit gradient cannot hold the average exactly: what its rounding loses is kept as well.
void HostLayer::keep_16_bit_residual() {
  if (!settings_.error_feedback) return;
  // What was not sent and the average together; then less what was really written.
  if (keeps_own()) {
    record_.linear->decode_keep_loss(record_.shape, key_, means(), own_, values_, values_);
  }
  if (!is_linear() || keeps_own()) add(values_, result_, values_);
  read_16_bit(gradient_.data, record_.spec.dtype, result_);
  kernels::subtract(values_.data(), result_.data(), values_.size(), values_.data());
  record_.residual.keep(values_, key_);
}

}  // namespace lgreco
