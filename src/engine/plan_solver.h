// From a cost table to a plan.
#pragma once

#include <span>
#include <vector>

#include "lgreco/plan.h"
#include "src/engine/cost_table.h"

namespace lgreco {

struct PlanProblem {
  const LGrecoPolicy& policy;
  std::span<const LayerRecord> layers;
  std::span<const Candidates> candidates;
  std::span<const CostRow> rows;
  /// By layer: one of its candidates.
  std::span<const Level> references;

  // -- Objective::time only.

  int ranks = 1;
  std::size_t buckets = 1;
  Network network = {};
  /// By layer and candidate: seconds to encode and decode.
  std::span<const std::vector<double>> codec_seconds = {};
};

struct SolvedPlan {
  Plan plan;  // levels, estimates, and what they sum up to; the rest is the caller's
  /// Layers that keep their reference because they were not measured.
  std::size_t fallbacks = 0;
};

/// Pure and deterministic: equal problems give equal plans on every rank.
SolvedPlan solve_plan(const PlanProblem& problem);

}  // namespace lgreco
