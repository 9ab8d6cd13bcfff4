// Aggregator: named gradients in, averages over the ranks out, compressed in between.
//
// The DDP hook, the MPI trainer and outer-step synchronisation are thin drivers of this class. One
// instance per model per rank; all ranks construct it with equal arguments and hand over the same
// buckets in the same order. A step is the sequence of buckets up to the one marked `last`; a layer
// stands at most once in a step.
//
// It belongs to the process that made it. In a forked child every call throws ConfigError, except
// for abandon() and the destructor, which do nothing there: the parent goes on.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lgreco/bucket.h"
#include "lgreco/communicator.h"
#include "lgreco/layer.h"
#include "lgreco/options.h"
#include "lgreco/plan.h"
#include "lgreco/process.h"
#include "lgreco/state.h"
#include "lgreco/trace.h"

namespace lgreco {

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
  struct Impl;
  /// Throws ConfigError in a forked child.
  Impl& impl() const;

  WhereMade<std::unique_ptr<Impl>> impl_;
};

}  // namespace lgreco
