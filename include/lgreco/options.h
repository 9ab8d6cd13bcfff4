// How an Aggregator compresses: what every rank must set alike, and what only speed depends on.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lgreco/dtype.h"
#include "lgreco/layer.h"
#include "lgreco/level.h"
#include "lgreco/policy.h"

namespace lgreco {

/// Beyond it, deadlines could not be told on every clock.
inline constexpr std::chrono::hours kLongestTimeout{24 * 365};

struct AggregatorOptions {
  // -- These change the result; they must be equal on every rank.

  /// The reference level, and what every layer gets until a policy says otherwise.
  Level method = {};
  Policy policy = UniformPolicy{};
  /// Keep what was not sent and add it to the next step's gradient.
  bool error_feedback = true;
  /// In which residuals are kept: f32, or bf16 with stochastic rounding (half the memory).
  DType residual = DType::f32;
  std::uint64_t seed = 0;
  /// Steps before this one travel dense.
  std::uint64_t start = 0;
  /// Keep what a step changes as it was before, so that Aggregator::discard_last_step() can take
  /// the newest step back: the memory of another residual, and of other factors and Accordion's
  /// sums. What follows a step (plans, decisions) comes when the next one begins.
  bool keep_previous = false;
  /// Every so many steps the ranks compare their parameters; 0: never.
  std::uint64_t drift_check_every = 100;
  /// All layers of the model, where this rank averages only some of them: the same on every rank
  /// that commits together, which is checked at registration. Saved states are of this model.
  /// Empty: those that are registered.
  std::vector<LayerSpec> model;
  /// The parameter in memory of a layer of the model; valid until the next call. Called in a step,
  /// on a thread of the library; what it throws costs the step. Without it no drift check is made.
  /// With `model` all ranks that commit together compare theirs, otherwise those that average.
  std::function<std::span<const std::byte>(std::size_t layer)> parameter;
  /// Some values of the parameters that change when averages are applied, where reading them whole
  /// in every step would cost too much. Called as `parameter` is. Null: they are taken from there.
  std::function<std::vector<float>()> parameter_sample;
  /// Where Bucket::fetch brings gradients of other ranks, too: whether this rank had any of its own
  /// in the step that ends. Called once a step, after the last bucket. Empty: as the buckets say.
  std::function<bool()> has_gradient;
  /// Pairs of (what, value) of the caller's own that decide on buckets, their order, or on which
  /// layers have a gradient: compared at registration like the settings above.
  std::vector<std::pair<std::string, std::string>> caller_settings;

  // -- These change only speed and memory.

  /// Called once the run has failed: whatever Bucket::fetch or Bucket::deliver wait for must end
  /// soon, with an exception. On any thread; perhaps more than once.
  std::function<void()> give_up;

  /// What a step may take from its first bucket to its end before it fails with PeerError: more
  /// than 0, and at most kLongestTimeout. Sharing and agreeing on a plan between two steps, and
  /// loading a state, may take as long again each.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Threads that encode and decode. More helps large models on machines with cores to spare.
  int threads = 1;
};

}  // namespace lgreco
