// One layer of a bucket, in the memory of the host: its part in each stage of an exchange.
//
// The memory of an fp32 gradient is the staging area: it holds gradient + residual first, then what
// was not sent, and the average in the end. A 16-bit gradient has two fp32 copies instead.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lgreco/bucket.h"
#include "lgreco/values.h"
#include "src/engine/layer_record.h"
#include "src/engine/place.h"
#include "src/engine/sum.h"

namespace lgreco {

/// What the values of all layers depend on.
struct HostSettings {
  Place place;
  std::uint64_t seed = 0;
  bool error_feedback = true;
  /// See AggregatorOptions.
  bool keep_previous = false;
};

/// At the level that the record has when it is made. What it is made from must outlive it.
/// Different layers may be worked on by different threads.
class HostLayer {
 public:
  HostLayer(LayerRecord& record, const HostSettings& settings, Presence& presence);
  HostLayer(HostLayer&&) = default;  // a copy would work in the original's memory

  /// 1 or 2: how often something of this layer is summed over the ranks.
  int rounds() const { return record_.linear == nullptr ? 1 : record_.linear->rounds(); }
  /// What `round` sums: the values of a coded layer, or a factor of a linear one.
  Addend addend(int round) const;
  /// The sums of the rounds, in each of which the addend is at `index`.
  void join(std::span<const std::unique_ptr<Sum>> sums, std::size_t index);

  /// Begin a step.
  void start(const Gradient& gradient);
  /// values = gradient + residual. Fills the first factor and takes all memory that committing the
  /// step needs.
  void load(const StepContext& context);
  /// Fills the second factor, from the mean of the first. REQUIRES: rounds() == 2.
  void encode_second_round();
  /// Takes the last factor's mean, and raises the presence when the average overflows.
  void check(const MessageBodies& gather);
  void finish(const StepContext& context, const MessageBodies& gather, bool commit);

  /// Before a stage of the sums: a layer that is non-finite takes no part.
  void leave_out_if_non_finite();
  /// After it: a layer whose sum overflowed is non-finite.
  void take_over_overflow();

  /// Of this step.
  const Findings& findings() const { return findings_; }

 private:
  bool is_fp32() const { return record_.spec.dtype == DType::f32; }
  bool is_linear() const { return record_.linear != nullptr; }
  bool keeps_own() const { return is_linear() && !own_.empty(); }
  bool collects_window(const StepContext& context) const {
    return context.collect_windows && record_.measured_here;
  }
  Addend& joined(int round);
  std::span<const std::span<float>> means() const;
  bool encode_first_factor(std::span<const float> residual);
  void decode(const MessageBodies& gather, std::span<float> result) const;
  void commit(const StepContext& context, const MessageBodies& gather);
  void keep_residual(const MessageBodies& gather);
  void keep_16_bit_residual();

  LayerRecord& record_;
  const HostSettings& settings_;
  Presence& presence_;
  Gradient gradient_;
  RandomKey key_;  // of this step
  /// Gradient + residual, later what was not sent. An fp32 gradient's own memory, or part of
  /// `wide_`.
  std::span<float> values_;
  std::span<float> result_;  // 16-bit gradients only: the average
  std::vector<float> wide_;  // values and result of a 16-bit gradient
  std::vector<float> factor_memory_;
  std::array<std::span<float>, 2> factors_;  // of a linear layer, by round
  /// The last factor, at check() as others have it from here; see LayerRecord::keeps_own_part().
  std::span<float> own_;
  std::span<const std::unique_ptr<Sum>> sums_;  // by round
  std::size_t index_ = 0;
  Findings findings_;
  float largest_gradient_ = 0;  // in magnitude, when parameters are compared
};

}  // namespace lgreco
