#include "src/engine/plan_solver.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "lgreco/planner.h"

namespace lgreco {
namespace {

// Of a bucket: to the owners and back, and once more each for the second factor of low rank. The
// commit round comes on top of either, and does not decide anything.
constexpr int kCodedCollectives = 2;
constexpr int kLinearCollectives = 4;

/// One layer with everything that deciding needs: parallel arrays by candidate.
struct Row {
  const Candidates* levels = nullptr;
  std::vector<Estimate> estimates;
  std::vector<double> harms;
  double norm = 0;
  std::size_t reference = 0;
  bool measured = false;
};

bool is_time(const PlanProblem& problem) {
  return problem.policy.objective == LGrecoPolicy::Objective::time;
}

Row row_of_layer(const PlanProblem& problem, std::size_t layer) {
  Row row;
  row.levels = &problem.candidates[layer];
  row.norm = problem.rows[layer].norm;
  const Candidates& levels = *row.levels;
  const CostRow& costs = problem.rows[layer];
  row.reference = static_cast<std::size_t>(
      std::find(levels.begin(), levels.end(), problem.references[layer]) - levels.begin());
  for (std::size_t c = 0; c < levels.size(); ++c) {
    Estimate estimate;
    estimate.bytes = static_cast<double>(payload_bytes(levels[c], problem.layers[layer].shape));
    estimate.error = costs.errors[c];
    if (is_time(problem)) {
      estimate.seconds = problem.codec_seconds[layer][c] +
                         wire_seconds(estimate.bytes, 0, problem.ranks, problem.network);
    }
    row.harms.push_back(harm(problem.policy.budget, estimate.error, costs.norm));
    row.estimates.push_back(estimate);
  }
  row.measured =
      std::isfinite(costs.norm) && costs.norm > 0 && std::isfinite(row.harms[row.reference]);
  return row;
}

/// Which candidates of a layer may be chosen.
enum class Families { all, coded, dense };

bool is_in(Families families, const Row& row, std::size_t candidate) {
  const bool is_dense = candidate + 1 == row.levels->size();
  switch (families) {
    case Families::all:
      return true;
    case Families::coded:
      return is_dense || is_coded((*row.levels)[candidate].method);
    case Families::dense:
      return is_dense;
  }
  return false;
}

bool offers(Families families, const Row& row, std::size_t candidate) {
  const bool is_dense = candidate + 1 == row.levels->size();
  if (!row.measured) {
    return is_in(families, row, row.reference) ? candidate == row.reference : is_dense;
  }
  // What loses as much as sending nothing loses ever more under error feedback.
  const bool diverges = !(row.estimates[candidate].error < row.norm);
  if (diverges && candidate != row.reference && !is_dense) return false;
  return is_in(families, row, candidate);
}

struct Choice {
  std::vector<std::size_t> candidates;  // by layer
  double error = 0;
  double lower_bound = 0;
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
      if (c == row.reference) {
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
  Choice choice{.candidates = {}, .error = solution.error, .lower_bound = solution.lower_bound};
  bool linear = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t candidate = indices[i][solution.choice[i]];
    choice.candidates.push_back(candidate);
    choice.seconds += rows[i].estimates[candidate].seconds;
    linear |= !is_coded((*rows[i].levels)[candidate].method);
  }
  choice.seconds += static_cast<double>(problem.buckets) *
                    wire_seconds(0, linear ? kLinearCollectives : kCodedCollectives, problem.ranks,
                                 problem.network);
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

Reason reason_of(const PlanProblem& problem, const Row& row, std::size_t chosen) {
  if (row.levels->size() == 1) return Reason::only_candidate;
  if (!row.measured && chosen == row.reference) return Reason::not_measured;
  if (!is_time(problem)) return Reason::least_bytes;
  return chosen + 1 == row.levels->size() ? Reason::dense_is_faster : Reason::least_time;
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
  for (std::size_t i = 0; i < problem.layers.size(); ++i) {
    const Row& row = rows.emplace_back(row_of_layer(problem, i));
    if (row.measured) reference_harm += row.harms[row.reference];
    if (!row.measured && row.levels->size() > 1) ++solved.fallbacks;
  }
  Plan& plan = solved.plan;
  plan.budget = problem.policy.alpha * reference_harm;
  const Choice choice = is_time(problem) ? fastest(problem, rows, plan.budget)
                                         : choose(problem, rows, plan.budget, Families::all);
  plan.error = choice.error;
  if (!is_time(problem)) plan.lower_bound = choice.lower_bound;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    const std::size_t chosen = choice.candidates[i];
    plan.layers.push_back(problem.layers[i].spec.name);
    plan.levels.push_back((*row.levels)[chosen]);
    plan.bytes += row.estimates[chosen].bytes;
    plan.estimates.push_back({reason_of(problem, row, chosen), shown(row.estimates[chosen]),
                              shown(row.estimates[row.reference]), shown(row.estimates.back())});
  }
  return solved;
}

}  // namespace lgreco
