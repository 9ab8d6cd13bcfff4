// Aggregator: named gradients in, averages over the ranks out, compressed in between.
//
// The DDP hook, the MPI trainer and outer-step synchronisation are thin drivers of this class. One
// instance per model per rank; all ranks construct it with equal arguments and hand over the same
// buckets in the same order. A step is the sequence of buckets up to the one marked `last`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/layer.h"
#include "lgreco/level.h"
#include "lgreco/plan.h"
#include "lgreco/policy.h"

namespace lgreco {

struct AggregatorOptions {
  // -- These change the result; they must be equal on every rank.

  /// The reference level, and what every layer gets until a policy says otherwise.
  Level method;
  Policy policy = UniformPolicy{};
  /// Keep what was not sent and add it to the next step's gradient.
  bool error_feedback = true;
  std::uint64_t seed = 0;
  /// Steps before this one travel dense.
  std::uint64_t start = 0;
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

/// Counters of this rank since construction. Bytes are what a network interface would count, with
/// the communicator's message overhead. Times in seconds.
struct Stats {
  std::uint64_t steps = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  /// What an uncompressed ring all-reduce of the same gradients would have sent.
  std::uint64_t dense_bytes = 0;
  double encode_s = 0;
  double decode_s = 0;
  double wait_s = 0;
  double plan_s = 0;
  std::uint64_t plans = 0;
  /// Layers that fell back to the reference level in some re-plan (zero or non-finite gradients).
  std::uint64_t plan_fallbacks = 0;
  /// Steps in which at least one layer was non-finite on some rank.
  std::uint64_t overflow_steps = 0;
  /// L2 norm over all residuals of this rank.
  double residual_norm = 0;
};

/// What one layer carries from step to step. Empty vectors: nothing yet.
struct LayerState {
  std::vector<float> residual;
  std::vector<float> factor;
  /// Sum of the corrected gradients (gradient + residual) of the current window, and of how many.
  std::vector<float> window;
  std::uint64_t window_steps = 0;
};

/// Everything a resumed run needs to go on as if never stopped.
struct AggregatorState {
  int rank = 0;
  int size = 1;
  std::uint64_t step = 0;
  Plan plan;
  Stats stats;
  std::vector<LayerState> layers;  // in registration order
};

class Aggregator {
 public:
  /// Throws ConfigError on duplicate names or settings out of range.
  Aggregator(std::vector<LayerSpec> layers, AggregatorOptions options,
             std::unique_ptr<Communicator> communicator);
  /// Waits for the bucket in flight, drops the others (their `done` gets a PeerError).
  ~Aggregator();
  Aggregator(const Aggregator&) = delete;
  Aggregator& operator=(const Aggregator&) = delete;

  /// Queue one bucket and return at once. `done` runs on the library's thread, with null after
  /// success. After a failure every later bucket fails with the same error. Memory named by
  /// `bucket` must live until `done`. Thread-safe, but the order of calls must be the same on every
  /// rank.
  void submit(Bucket bucket, std::function<void(std::exception_ptr)> done);

  /// submit and wait; rethrows the failure.
  void exchange(Bucket bucket);

  const std::vector<LayerSpec>& layers() const;
  /// The following wait until the queue is empty; never call them from `done`. Thread-safe.
  Plan plan() const;
  Stats stats() const;
  AggregatorState state() const;
  /// All or nothing. Throws StateError when the state is another rank's, another world's or does
  /// not fit the layers.
  void load_state(AggregatorState state);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lgreco
