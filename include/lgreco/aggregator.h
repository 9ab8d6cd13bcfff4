// Aggregator: named gradients in, averages over the ranks out, compressed in between.
//
// The DDP hook, the MPI trainer and outer-step synchronisation are thin drivers of this class. One
// instance per model per rank; all ranks construct it with equal arguments and hand over the same
// buckets in the same order. A step is the sequence of buckets up to the one marked `last`; a layer
// stands at most once in a step.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/layer.h"
#include "lgreco/level.h"
#include "lgreco/plan.h"
#include "lgreco/policy.h"

namespace lgreco {

/// Beyond it, deadlines could not be told on every clock.
inline constexpr std::chrono::hours kLongestTimeout(24 * 365);

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
  /// Every so many steps the ranks compare their parameters; 0: never.
  std::uint64_t drift_check_every = 100;
  /// A layer's parameter in memory; valid during a step. Without it no drift check is made.
  std::function<std::span<const std::byte>(std::size_t layer)> parameter;

  // -- These change only speed and memory.

  /// What a step may take from its first bucket to its end before it fails with PeerError: more
  /// than 0, and at most kLongestTimeout. Sharing and agreeing on a plan after a step may take as
  /// long again each.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Threads that encode and decode. More helps large models on machines with cores to spare.
  int threads = 1;
};

/// One layer's gradient inside a bucket, contiguous, in the dtype of its LayerSpec. Replaced by the
/// average over all ranks.
struct Gradient {
  std::size_t layer = 0;  // index in the registered list
  void* data = nullptr;
  /// false: this rank has no gradient for the layer in this step. Absent everywhere: the data is
  /// filled with zeros and the layer's residual stays for a later step.
  bool present = true;
};

struct Bucket {
  std::vector<Gradient> gradients;
  /// Ends the step.
  bool last = true;
};

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
  /// L2 norm over all residuals of this rank.
  double residual_norm = 0;
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
  int size = 1;
  std::uint64_t step = 0;
  /// Of the model and of the settings that change results.
  std::uint64_t fingerprint = 0;
  double grad_scale = 1.0;
  /// Accordion: the whole model is in a critical regime.
  bool critical = true;
  Plan plan;
  Stats stats;
  std::vector<LayerState> layers;  // in registration order
};

/// Bytes of memory that compression needs on this rank beyond the gradients themselves.
struct MemoryUse {
  /// Error feedback: 4 (fp32) or 2 (bf16) bytes an element of a compressed layer.
  std::uint64_t residuals = 0;
  /// Warm low-rank factors.
  std::uint64_t factors = 0;
  /// Messages of one step; of 16-bit gradients their values in fp32, too.
  std::uint64_t staging = 0;
  /// Before a plan is made: 8 bytes an element of the layers that this rank measures. With
  /// Accordion: 4 bytes an element, always.
  std::uint64_t windows = 0;
};

/// What one of the engine's threads did.
struct TraceEvent {
  const char* name;   // such as "encode" or "scatter A"
  const char* track;  // "backward", "encode", "lane A", "lane B", "planner"
  std::uint64_t step;
  std::uint32_t bucket;
  Clock::time_point begin, end;
};

class Aggregator {
 public:
  /// Collective: all ranks compare their settings, and throw the same MismatchError when they
  /// differ. `lanes` holds one communicator, or two over the same ranks: then the second round of a
  /// bucket and the first of the next one overlap.
  /// Throws ConfigError on duplicate names or settings out of range, PeerError when a peer does not
  /// answer within the timeout.
  Aggregator(std::vector<LayerSpec> layers, AggregatorOptions options,
             std::vector<std::unique_ptr<Communicator>> lanes);
  /// Waits a little for the step in flight, then gives up on it: buckets that are not done get a
  /// PeerError.
  ~Aggregator();
  Aggregator(const Aggregator&) = delete;
  Aggregator& operator=(const Aggregator&) = delete;

  /// Queue one bucket and return at once. `done` runs on a thread of the library once the whole
  /// step has ended: with null after success, and with the failure otherwise.
  ///
  /// A step is a transaction. When anything fails on any rank, all ranks get the same error, no
  /// state changes anywhere, and the gradients are left unspecified. After a PeerError, and after a
  /// failure of the closing agreement, every later bucket fails with the same error; after any
  /// other, the next step may go on.
  ///
  /// Throws ConfigError, and queues nothing, for a layer that does not exist or was already handed
  /// over in this step. `done` must not throw.
  ///
  /// The gradients' memory is used until `done`; `bucket` itself is copied. Thread-safe, but the
  /// order of calls must be the same on every rank. Allocates nothing once buckets repeat.
  void submit(const Bucket& bucket, std::function<void(std::exception_ptr)> done);

  /// One step of one bucket: submit and wait; rethrows the failure. REQUIRES: bucket.last.
  void exchange(const Bucket& bucket);

  /// Gradients are handed over multiplied by `scale` from the next step on (the loss scale of mixed
  /// precision). What was kept is converted, exactly when scales are powers of two.
  /// Throws ConfigError unless `scale` is positive and finite.
  void set_grad_scale(double scale);

  /// Accordion: when `now` is less than `before`, every layer gets low compression from the next
  /// step until the detector's next decision. Call it on every rank before the same step: otherwise
  /// the plans differ, and the next step fails with ProtocolError. Without effect under other
  /// policies. Waits for the step in flight. Throws ConfigError in the middle of a step, and unless
  /// both are finite and not negative; and the failure that ended the run, if one did.
  void on_learning_rate_change(double before, double now);

  /// Give up, when no more buckets will come: all that was submitted, and all that will be, fails
  /// with a ConfigError of this reason. Thread-safe.
  void abandon(const std::string& reason);

  int rank() const;
  int size() const;
  const std::vector<LayerSpec>& layers() const;
  /// With the current plan.
  MemoryUse memory() const;
  /// The following wait until every complete step has ended; never call them from `done`.
  /// Thread-safe.
  Plan plan() const;
  /// Accordion: the change of the whole model's norm says that training is in a critical regime.
  /// True under other policies.
  bool in_critical_regime() const;
  Stats stats() const;
  AggregatorState state() const;
  /// Collective; all or nothing, on all ranks: throws StateError everywhere when the state of some
  /// rank is another rank's, another world's, of other settings or another step, or does not fit
  /// the layers.
  void load_state(AggregatorState state);
  /// The counterpart of load_state on a rank that has nothing to load: StateError on all ranks.
  void refuse_state(const std::string& reason);

  /// Record what the threads do, until stop_trace().
  void start_trace();
  std::vector<TraceEvent> stop_trace();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lgreco
