// What a run is between two steps, whatever ranks and threads carry it on: layers with their
// residuals and factors, plan, step, loss scale. Saved and loaded here.
//
// It knows no communicator. Changed by one thread at a time, while no bucket is under way.
#pragma once

#include <cstdint>
#include <vector>

#include "lgreco/options.h"
#include "lgreco/state.h"
#include "lgreco/values.h"
#include "src/engine/agreement.h"
#include "src/engine/layer_record.h"
#include "src/engine/place.h"
#include "src/engine/planning.h"
#include "src/engine/trace.h"

namespace lgreco {

class RunState {
 public:
  /// Throws ConfigError on duplicate names and on settings out of range.
  /// `place` is among the ranks that average `layers`. `membership` must outlive it.
  RunState(std::vector<LayerSpec> layers, const AggregatorOptions& options, Place place,
           const Membership& membership, Trace& trace);
  RunState(const RunState&) = delete;
  RunState& operator=(const RunState&) = delete;

  /// Use the first plan. Once, before the first step.
  void begin();

  /// Committed steps.
  std::uint64_t step() const { return step_; }
  /// Of this rank's layers.
  Plan plan() const;
  std::uint64_t plan_version() const { return plan_.version; }
  /// Of the plan of all layers of the membership.
  std::uint64_t plan_hash() const { return plan_hash_; }
  /// Changes with each use(): what refers to the layers' codecs is stale then.
  std::uint64_t codecs() const { return codecs_; }
  /// What gradients are multiplied by; 1 when nobody has said.
  double grad_scale() const { return grad_scale_ == 0 ? 1.0 : grad_scale_; }
  bool is_paused() const { return paused_; }
  /// What follows the newest step is still to be done.
  bool is_unsettled() const { return unsettled_; }
  std::uint64_t fingerprint_of_model() const { return fingerprint_of_model_; }
  Planning& planning() { return planning_; }
  const Planning& planning() const { return planning_; }
  std::vector<LayerRecord>& layers() { return layers_; }
  const std::vector<LayerSpec>& specs() const { return specs_; }
  /// All layers of the membership, in an order that does not depend on who holds them.
  const std::vector<LayerSpec>& model() const { return model_; }
  /// What takes part in passes while paused: the same layers, dense, and without any state.
  std::vector<LayerRecord>& stateless_layers() { return stateless_layers_; }

  /// What the coming step must do. Without its place in the sequence of buckets, and deadline.
  StepContext context() const;
  /// What the ranks must agree on at the end of a step.
  Terms terms() const;

  /// A step was committed.
  void advance();
  /// A step was lost.
  void keep() { discardable_ = false; }
  /// What follows a step: decisions and plans. Collective when a plan is shared or takes effect.
  void settle(const StepEnd& end, Stats& stats);
  /// From the coming step on. `plan` is of all layers of the membership.
  void use(Plan plan);

  /// How many residuals did not survive it.
  std::uint64_t set_grad_scale(double scale);
  void on_learning_rate_change(double before, double now);
  /// From the coming pass on.
  void pause(bool paused);
  /// Forget what was not sent, what warms the factors, and what plans are made from.
  void reset();
  /// Take the newest step back; false when it left no trace.
  bool discard_last_step();

  AggregatorState save(const Stats& stats) const;
  /// A state that can be loaded here, and its large memory.
  struct Loadable {
    AggregatorState state;
    std::vector<Residual> residuals;
    // Of all layers of the membership.
    Plan plan;
    std::vector<bool> critical;
  };
  /// Changes nothing. Throws StateError when `state` cannot be loaded here.
  Loadable prepare(AggregatorState state) const;
  /// Not the counters, which are the caller's.
  void load(Loadable loadable);

  MemoryUse memory() const;
  double residual_norm() const;

 private:
  RandomKey key(const LayerRecord& layer) const { return {options_.seed, step_, layer.id}; }

  const AggregatorOptions& options_;
  Place place_;
  const Membership& membership_;
  const std::vector<LayerSpec> specs_, model_;
  std::vector<LayerRecord> layers_;
  std::vector<LayerRecord> stateless_layers_;  // once paused
  std::uint64_t fingerprint_, fingerprint_of_model_;
  Planning planning_;
  Plan plan_;  // of all layers of the membership
  std::uint64_t plan_hash_ = 0;
  std::uint64_t codecs_ = 0;
  std::uint64_t step_ = 0;
  double grad_scale_ = 0;  // not said
  std::uint64_t resets_ = 0;
  bool learning_rate_decayed_ = false, decay_is_agreed_ = false;  // see AggregatorState
  bool paused_ = false, unsettled_ = false;
  bool discardable_ = false;  // the newest step was committed, and not yet taken back
};

}  // namespace lgreco
