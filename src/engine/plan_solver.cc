#include "src/engine/plan_solver.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lgreco/compressor.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

/// One layer with everything that deciding needs.
struct Row {
  const LevelRow* layer = nullptr;
  double norm = 0;                  // infinite when not known
  std::vector<Estimate> estimates;  // by candidate
  std::vector<double> harms;        // by candidate
  bool measured = false;

  bool is_dense(std::size_t candidate) const { return candidate == layer->dense; }
  bool is_reference(std::size_t candidate) const { return candidate == layer->reference; }
};

bool is_time(const PlanProblem& problem) {
  return problem.policy.objective == LGrecoPolicy::Objective::time;
}

void check(const PlanProblem& problem, const LevelRow& layer) {
  const std::size_t count = layer.levels.size();
  if (layer.bytes.size() != count || layer.errors.size() != count || layer.reference >= count ||
      layer.dense.value_or(0) >= count ||
      (is_time(problem) && (!layer.dense || layer.codec_seconds.size() != count))) {
    throw ConfigError("[plan] the row of layer '" + layer.name + "' is not complete");
  }
}

Row row_of_layer(const PlanProblem& problem, const LevelRow& layer) {
  check(problem, layer);
  Row row{.layer = &layer, .norm = layer.norm.value_or(std::numeric_limits<double>::infinity())};
  for (std::size_t c = 0; c < layer.levels.size(); ++c) {
    Estimate estimate{.bytes = layer.bytes[c], .error = layer.errors[c]};
    if (is_time(problem)) {
      estimate.seconds =
          layer.codec_seconds[c] + wire_seconds(estimate.bytes, 0, problem.ranks, problem.network);
    }
    row.harms.push_back(harm(problem.policy.budget, estimate.error, row.norm));
    row.estimates.push_back(estimate);
  }
  row.measured = (!layer.norm || (std::isfinite(row.norm) && row.norm > 0)) &&
                 std::isfinite(row.harms[layer.reference]);
  return row;
}

/// Which candidates of a layer may be chosen.
enum class Families { all, coded, dense };

bool is_in(Families families, const Row& row, std::size_t candidate) {
  switch (families) {
    case Families::all:
      return true;
    case Families::coded:
      return row.is_dense(candidate) || is_coded(row.layer->levels[candidate].method);
    case Families::dense:
      return row.is_dense(candidate);
  }
  return false;
}

bool offers(Families families, const Row& row, std::size_t candidate) {
  if (!row.measured) {
    return is_in(families, row, row.layer->reference) ? row.is_reference(candidate)
                                                      : row.is_dense(candidate);
  }
  // What loses as much as sending nothing loses ever more under error feedback.
  const bool diverges = !(row.estimates[candidate].error < row.norm);
  if (diverges && !row.is_reference(candidate) && !row.is_dense(candidate)) return false;
  return is_in(families, row, candidate);
}

struct Choice {
  std::vector<std::size_t> candidates;  // by layer
  double error = 0;
  double lower_bound = 0;
  bool feasible = true;
  double seconds = 0;
};

Choice choose(const PlanProblem& problem, const std::vector<Row>& rows, double budget,
              Families families) {
  std::vector<PlannerRow> offered(rows.size());
  std::vector<std::vector<std::size_t>> indices(rows.size());
  std::vector<std::size_t> reference(rows.size());
  bool has_reference = true;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    bool offers_reference = false;
    for (std::size_t c = 0; c < row.estimates.size(); ++c) {
      if (!offers(families, row, c)) continue;
      if (row.is_reference(c)) {
        reference[i] = indices[i].size();
        offers_reference = true;
      }
      indices[i].push_back(c);
      offered[i].costs.push_back(is_time(problem) ? row.estimates[c].seconds
                                                  : row.estimates[c].bytes);
      offered[i].errors.push_back(row.measured ? row.harms[c] : 0);
    }
    has_reference &= offers_reference;
  }
  const SolveOptions options{.solver = problem.policy.solver};
  const Solution solution = has_reference ? solve(offered, budget, reference, options)
                                          : solve(offered, budget, std::nullopt, options);
  Choice choice{.candidates = {},
                .error = solution.error,
                .lower_bound = solution.lower_bound,
                .feasible = solution.feasible};
  bool linear = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t candidate = indices[i][solution.choice[i]];
    choice.candidates.push_back(candidate);
    choice.seconds += rows[i].estimates[candidate].seconds;
    linear |= !is_coded(rows[i].layer->levels[candidate].method);
  }
  // The commit comes on top of either, and does not decide anything.
  choice.seconds +=
      static_cast<double>(problem.buckets) *
      wire_seconds(0, collectives_of_bucket(linear, problem.ranks), problem.ranks, problem.network);
  return choice;
}

// A layer's cost does not tell what its family costs all: one low-rank layer adds collectives.
Choice fastest(const PlanProblem& problem, const std::vector<Row>& rows, double budget) {
  Choice best = choose(problem, rows, budget, Families::dense);
  for (const Families families : {Families::coded, Families::all}) {
    Choice other = choose(problem, rows, budget, families);
    if (other.seconds < best.seconds) best = std::move(other);
  }
  return best;
}

Reason reason_of(const PlanProblem& problem, const Row& row, std::size_t chosen, bool feasible) {
  if (row.layer->levels.size() == 1) return Reason::only_candidate;
  if (!row.measured && row.is_reference(chosen)) return Reason::not_measured;
  if (!feasible) return Reason::nothing_fits;
  if (!is_time(problem)) return Reason::least_bytes;
  return row.is_dense(chosen) ? Reason::dense_is_faster : Reason::least_time;
}

// NaN is for "not measured" in tables, not in plans.
Estimate shown(Estimate estimate) {
  if (!std::isfinite(estimate.error)) estimate.error = 0;
  return estimate;
}

}  // namespace

SolvedPlan solve_plan(const PlanProblem& problem) {
  std::vector<Row> rows;
  SolvedPlan solved;
  double reference_harm = 0;
  for (const LevelRow& layer : problem.layers) {
    const Row& row = rows.emplace_back(row_of_layer(problem, layer));
    if (row.measured) reference_harm += row.harms[layer.reference];
    if (!row.measured && layer.levels.size() > 1) ++solved.fallbacks;
  }
  Plan& plan = solved.plan;
  plan.budget = problem.policy.alpha * reference_harm;
  const Choice choice = is_time(problem) ? fastest(problem, rows, plan.budget)
                                         : choose(problem, rows, plan.budget, Families::all);
  solved.feasible = choice.feasible;
  plan.error = choice.error;
  if (!is_time(problem)) plan.lower_bound = choice.lower_bound;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    const LevelRow& layer = *row.layer;
    const std::size_t chosen = choice.candidates[i];
    plan.layers.push_back(layer.name);
    plan.levels.push_back(layer.levels[chosen]);
    plan.bytes += row.estimates[chosen].bytes;
    plan.estimates.push_back({reason_of(problem, row, chosen, choice.feasible),
                              shown(row.estimates[chosen]), shown(row.estimates[layer.reference]),
                              layer.dense ? shown(row.estimates[*layer.dense]) : Estimate{}});
  }
  return solved;
}

}  // namespace lgreco
