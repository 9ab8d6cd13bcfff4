// What an Aggregator counts, needs, and carries from step to step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lgreco/plan.h"

namespace lgreco {

/// Counters of this rank since construction, of finished steps. Bytes are what a network interface
/// would count, with the communicator's message overhead. Times in seconds.
struct Stats {
  /// Committed steps: neither lost to an overflow nor failed.
  std::uint64_t steps = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t messages_sent = 0;
  /// What an uncompressed ring all-reduce of the same gradients would have sent.
  std::uint64_t dense_bytes = 0;
  double encode_s = 0;
  double decode_s = 0;
  double wait_s = 0;
  /// Measuring and solving, in the background.
  double plan_s = 0;
  /// What re-planning held the next step up: sharing tables, agreeing, switching levels.
  double plan_wait_s = 0;
  /// Sealing and checking messages, and hashing parameters; not in the other times.
  double check_s = 0;
  std::uint64_t plans = 0;
  /// Layers that fell back to the reference level in some re-plan (zero or non-finite gradients).
  std::uint64_t plan_fallbacks = 0;
  /// Re-plans that were dropped on all ranks, because some rank failed to make its part or was
  /// late.
  std::uint64_t plan_failures = 0;
  /// Steps in which at least one layer was non-finite on some rank. They leave no trace in the
  /// state.
  std::uint64_t overflow_steps = 0;
  /// Steps that failed on some rank, and were lost on all.
  std::uint64_t failed_steps = 0;
  /// Residuals that were dropped because a layer could not be sent with them: they were too large
  /// for its type. What they held is lost.
  std::uint64_t dropped_residuals = 0;
  /// Steps that were committed although no parameter had changed since the step before: averages
  /// are not applied, or not each once. Only looked at when parameters are known.
  std::uint64_t unapplied_steps = 0;
  /// Steps in which a residual was many times its gradient; looked at when parameters are compared.
  std::uint64_t large_residual_steps = 0;
  /// L2 norm over all residuals of this rank.
  double residual_norm = 0;
  /// Why the newest of the plan failures happened; empty when none did.
  std::string plan_failure;
};

/// What a caller should be told while training goes on: the counters of Stats of these names.
struct Notices {
  std::uint64_t dropped_residuals = 0;
  std::uint64_t unapplied_steps = 0;
  std::uint64_t large_residual_steps = 0;
};

/// Bytes of memory that compression needs on this rank beyond the gradients themselves.
struct MemoryUse {
  /// Error feedback: 4 (fp32) or 2 (bf16) bytes an element of a compressed layer; as much again, of
  /// every layer, with AggregatorOptions::keep_previous.
  std::uint64_t residuals = 0;
  /// Warm low-rank factors; with keep_previous twice.
  std::uint64_t factors = 0;
  /// Messages of one step; of 16-bit gradients their values in fp32, too.
  std::uint64_t staging = 0;
  /// Before a plan is made: 8 bytes an element of the layers that this rank measures. With
  /// Accordion: 4 bytes an element, always; with keep_previous 8.
  std::uint64_t windows = 0;
};

/// What one layer carries from step to step. Empty vectors: nothing yet.
struct LayerState {
  std::vector<float> residual;
  std::vector<float> factor;
  /// Sum of the corrected gradients (gradient + residual) of the current window, and of how many.
  /// Only on the rank that measures the layer for the next plan.
  std::vector<float> window;
  std::uint64_t window_steps = 0;
  /// Accordion: sum of the averages of the current interval, the norm of that of the interval
  /// before (-1: none yet), and what was decided.
  std::vector<float> interval_sum;
  double interval_norm = -1;
  bool critical = true;
};

/// Everything a resumed run needs to go on as if never stopped.
struct AggregatorState {
  int rank = 0;
  /// 0: it is no rank's own, but of the whole model for any number of ranks, made by
  /// Aggregator::portable_state(): residuals are the mean over the ranks.
  int size = 1;
  bool is_portable() const { return size == 0; }
  std::uint64_t step = 0;
  /// Of the model and of the settings that change results.
  std::uint64_t fingerprint = 0;
  /// What gradients were multiplied by; 0 when nobody has said.
  double grad_scale = 0;
  /// Accordion: the whole model is in a critical regime.
  bool critical = true;
  /// Accordion: the learning rate decayed, which the ranks agree on with the coming step ...
  bool learning_rate_decayed = false;
  /// ... or have agreed on with the newest one, and what follows it will take in.
  bool decay_is_agreed = false;
  /// What follows the newest step (a plan, a decision) is still to be done, before the next one.
  bool unsettled = false;
  Plan plan;
  Stats stats;
  std::vector<LayerState> layers;  // in registration order
};

}  // namespace lgreco
