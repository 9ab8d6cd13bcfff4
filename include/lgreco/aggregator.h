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
#include "lgreco/groups.h"
#include "lgreco/layer.h"
#include "lgreco/options.h"
#include "lgreco/plan.h"
#include "lgreco/process.h"
#include "lgreco/state.h"
#include "lgreco/trace.h"

namespace lgreco {

class Aggregator {
 public:
  /// Collective: all ranks of `groups` compare their settings, and throw the same MismatchError
  /// when they differ; so do those of a lane in their layers. A vector of lanes is a Groups, too.
  /// Throws ConfigError on duplicate names or settings out of range, PeerError when a peer does not
  /// answer within the timeout.
  Aggregator(std::vector<LayerSpec> layers, AggregatorOptions options, Groups groups);
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

  // The following change what the coming step means: call them on every rank before the same step.
  // Otherwise that step, and each one until the ranks are alike again, fails on all ranks with the
  // same MismatchError. Not where messages would have other sizes, as nobody can tell then what was
  // meant: the run ends on all ranks with a PeerError at the timeout. That is so of pause() when
  // anything is compressed, and may be so, with AggregatorOptions::keep_previous, of
  // discard_last_step() and reset() when a plan or a decision follows the newest step.
  // They wait for the step in flight, and throw ConfigError in the middle of a step, and the
  // failure that ended the run, if one did.

  /// Gradients are handed over multiplied by `scale` (the loss scale of mixed precision). The first
  /// call says what the scale has been all along; a later one converts what was kept, exactly when
  /// scales are powers of two. A residual that does not survive it is dropped and counted.
  /// Throws ConfigError unless `scale` is positive and finite.
  void set_grad_scale(double scale);

  /// Accordion: when `now` is less than `before`, every layer gets low compression from the end of
  /// the coming step until the detector's next decision. Without effect under other policies.
  /// Throws ConfigError unless both are finite and not negative.
  void on_learning_rate_change(double before, double now);

  /// While paused, gradients are averaged dense and exactly, and nothing else happens: no residual
  /// is added or kept, no step is counted, no plan is made. For passes whose average is not
  /// applied.
  void pause(bool paused);

  /// Forget what was not sent yet, the factors, and what the next plan would be made from: when
  /// parameters were replaced. The plan stays.
  void reset();

  /// The newest step was not applied: everything becomes what it was before it. False, and nothing
  /// happens, when there is none to take back: it was lost anyway (an overflow, a failure), or was
  /// taken back already. Throws ConfigError without AggregatorOptions::keep_previous.
  bool discard_last_step();

  /// Collective, between steps: which layers some rank gives, so that a bucket of these (`present`
  /// or not) fits on every rank. `problem`: why this rank cannot give anything; all ranks throw a
  /// ConfigError of it then.
  std::vector<bool> agree_on_layers(const std::vector<bool>& given, const std::string& problem);

  /// Collective, between steps: what each rank that commits with this one has to say.
  std::vector<std::string> gather(const std::string& own);

  /// Give up, when no more buckets will come: all that was submitted, and all that will be, fails
  /// with a ConfigError of this reason. Thread-safe.
  void abandon(const std::string& reason);

  /// Of the steps that have ended. Never waits.
  Notices notices() const;

  /// Among those that average with this rank.
  int rank() const;
  int size() const;
  const std::vector<LayerSpec>& layers() const;
  /// All layers of those that commit together, in the order of a portable state.
  const std::vector<LayerSpec>& model() const;
  /// With the current plan.
  MemoryUse memory() const;
  /// The following wait until every complete step has ended; never call them from `done`.
  /// Thread-safe. With AggregatorOptions::keep_previous, what follows the newest step (plans,
  /// decisions) comes when the next one begins, and does not show before.
  /// Of this rank's layers; its sums are of all layers that are planned together.
  Plan plan() const;
  /// Accordion: the change of the whole model's norm says that training is in a critical regime.
  /// True under other policies.
  bool in_critical_regime() const;
  Stats stats() const;
  AggregatorState state() const;
  /// Collective, between steps: the state of all ranks together, of all layers, one model's size
  /// and the same on every rank; any number of ranks can load it. Residuals are their mean, windows
  /// and intervals as the ranks have them, counters those of the first rank.
  /// Throws on all ranks alike: MismatchError after a call that one rank alone made, ConfigError
  /// inside of a step, StateError when a message came damaged (call it again), PeerError, which
  /// ends the run, when a rank does not take part.
  AggregatorState portable_state();
  /// Collective; all or nothing, on all ranks: throws StateError everywhere when the state of some
  /// rank is another rank's, another world's, of other settings or another step, or does not fit
  /// the layers. A portable state fits every rank of every number of them; the ranks have the same
  /// mean residual then as those that made it.
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
