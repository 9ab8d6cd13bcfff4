// Planning: when the plan changes, and how the next one is made.
//
// Each rank measures its share of the layers on the mean of its own last corrected gradients, the
// ranks exchange their rows, and every rank solves the same table. Measuring and solving run on a
// background thread; the steps go on meanwhile. A rank that fails or is late makes all ranks keep
// the old plan.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "lgreco/options.h"
#include "lgreco/state.h"
#include "src/engine/layer_record.h"
#include "src/engine/plan_round.h"
#include "src/engine/regimes.h"

namespace lgreco {

class Planning {
 public:
  /// Throws ConfigError on a setting out of range or a name in a fixed plan that is no layer.
  /// `layers`, this rank's of `membership`, must outlive it, as that must; the rest of them belongs
  /// to the caller whenever no call is made.
  Planning(std::vector<LayerRecord>& layers, const AggregatorOptions& options,
           const Membership& membership, Trace& trace, PlanMaking::Measure measure = measure_row);

  // Plans, here, are of all layers of the membership.

  /// The plan of step 0.
  Plan first_plan() const;
  /// True when plans minimise time and no network was given: then set_network() must be called.
  bool needs_network() const;
  void set_network(const Network& network) { making_->network = network; }

  /// What a step must record of its layers.
  bool collects_windows(std::uint64_t step) const;  // of the layers marked `measured_here`
  bool sums_averages(std::uint64_t step) const;

  /// Call between each committed step and the next, on every rank: the plan from the next step on,
  /// if it changes. Collective at the steps where a plan is shared and takes effect.
  std::optional<Plan> after_step(const StepEnd& end, const Plan& current, Stats& stats);

  bool follows_learning_rate() const { return regimes_.has_value(); }
  /// Low compression until the next decision of Accordion; nothing under other policies.
  std::optional<Plan> on_learning_rate_decay(std::uint64_t step, const Plan& current);
  bool in_critical_regime() const { return !regimes_ || regimes_->critical; }

  /// All gradients so far were multiplied by `scale`, which was not known.
  void declare_grad_scale(double scale);
  /// The window of a layer, wherever it is, of gradients times `grad_scale`; for the state.
  Window window(std::size_t layer, double grad_scale) const;
  /// Go on at `step` from what the layers hold: drops what is being made. `critical` layers of the
  /// membership; what is said of this rank's own counts less than what they hold.
  void resume(std::uint64_t step, bool critical, std::vector<bool> critical_layers);
  /// Go on at `step` without what the next plan would have been made from.
  void forget(std::uint64_t step);
  /// By layer of the membership: what Accordion decided.
  const std::vector<bool>& critical_layers() const { return critical_; }

 private:
  Plan uniform_plan(const std::vector<Level>& levels) const;
  void share_regimes(const StepEnd& end);
  void update_references();
  Plan with_changed_references(const Plan& current, const std::vector<Level>& before) const;
  std::optional<Plan> replan(const StepEnd& end, Stats& stats);
  void mark_measured_layers(std::uint64_t step);
  void begin_round(const PlanningSteps& at, const StepEnd& end);
  std::optional<Plan> end_round(const StepEnd& end, Stats& stats);
  void leave_round();

  std::vector<LayerRecord>& layers_;
  AggregatorOptions options_;
  const Membership& membership_;
  Trace& trace_;
  /// By layer of the membership, as the following.
  std::vector<bool> critical_;
  /// What each layer gets by the reference level, a fixed plan, or Accordion's decision.
  std::vector<Level> references_;
  std::optional<Regimes> regimes_;
  /// Of the policy, or of what follows Accordion.
  std::optional<PlanMaking> making_;
  bool is_forgotten_ = false;  // what the next plan would have been made from
  std::unique_ptr<PlanRound> round_;
  std::unique_ptr<PlanRound> late_;  // its thread still runs, but nobody waits for it any more
};

}  // namespace lgreco
