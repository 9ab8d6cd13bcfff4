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
#include "src/engine/layer_record.h"
#include "src/engine/planning.h"
#include "src/engine/trace.h"

namespace lgreco {

class RunState {
 public:
  /// Throws ConfigError on duplicate names and on settings out of range.
  RunState(std::vector<LayerSpec> layers, const AggregatorOptions& options, Place place,
           Trace& trace);
  RunState(const RunState&) = delete;
  RunState& operator=(const RunState&) = delete;

  /// Use the first plan. Once, before the first step.
  void begin();

  /// Committed steps.
  std::uint64_t step() const { return step_; }
  const Plan& plan() const { return plan_; }
  std::uint64_t plan_hash() const { return plan_hash_; }
  /// Changes with each use(): what refers to the layers' codecs is stale then.
  std::uint64_t codecs() const { return codecs_; }
  double grad_scale() const { return grad_scale_; }
  std::uint64_t fingerprint() const { return fingerprint_; }
  Planning& planning() { return planning_; }
  const Planning& planning() const { return planning_; }
  std::vector<LayerRecord>& layers() { return layers_; }
  const std::vector<LayerSpec>& specs() const { return specs_; }

  /// What the coming step must do. Without its place in the sequence of buckets, and deadline.
  StepContext context() const;

  /// A step was committed.
  void advance() { ++step_; }
  /// From the coming step on.
  void use(Plan plan);
  void set_grad_scale(double scale);
  void on_learning_rate_change(double before, double now);

  AggregatorState save(const Stats& stats) const;
  /// Throws StateError when `state` cannot be loaded here, having changed nothing.
  void check(const AggregatorState& state) const;
  /// REQUIRES: check() did not throw. Not the counters, which are the caller's.
  void load(AggregatorState state);

  MemoryUse memory() const;
  double residual_norm() const;

 private:
  RandomKey key(const LayerRecord& layer) const { return {options_.seed, step_, layer.id}; }

  const AggregatorOptions& options_;
  Place place_;
  const std::vector<LayerSpec> specs_;
  std::vector<LayerRecord> layers_;
  std::uint64_t fingerprint_;
  Planning planning_;
  Plan plan_;
  std::uint64_t plan_hash_ = 0;
  std::uint64_t codecs_ = 0;
  std::uint64_t step_ = 0;
  double grad_scale_ = 1.0;
};

}  // namespace lgreco
