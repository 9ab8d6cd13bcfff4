#include "src/engine/plan_solver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lgreco/status.h"
#include "src/engine/cost_table.h"

namespace lgreco {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Two layers of a thousand times a thousand, with hand-made rows.
class PlanSolver : public testing::Test {
 protected:
  SolvedPlan solve(const std::vector<CostRow>& rows) const {
    const std::vector<std::string> names = {"easy", "hard"};
    std::vector<LevelRow> layers;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Candidates& levels = candidates[i];
      const auto reference = std::find(levels.begin(), levels.end(), references[i]);
      LevelRow& layer = layers.emplace_back(
          LevelRow{.name = names[i],
                   .levels = levels,
                   .bytes = {},
                   .errors = {rows[i].errors.begin(), rows[i].errors.end()},
                   .norm = rows[i].norm,
                   .reference = static_cast<std::size_t>(reference - levels.begin()),
                   .dense = levels.size() - 1});
      for (const Level& level : levels) {
        layer.bytes.push_back(static_cast<double>(payload_bytes(level, {1000, 1000})));
      }
      if (!codec_seconds.empty()) layer.codec_seconds = codec_seconds[i];
    }
    return solve_plan(
        {.policy = policy, .layers = layers, .ranks = 2, .buckets = 1, .network = network});
  }

  std::string level(const SolvedPlan& solved, std::size_t layer) const {
    return to_string(solved.plan.levels[layer]);
  }

  LGrecoPolicy policy;
  std::vector<Candidates> candidates = std::vector<Candidates>(
      2,
      {parse_level("low_rank:4"), parse_level("low_rank:2"), parse_level("topk:0.001"), Level{}});
  std::vector<Level> references = std::vector<Level>(2, parse_level("low_rank:4"));
  Network network{.bandwidth = 1e6, .latency = 1e-3};
  std::vector<std::vector<double>> codec_seconds;
};

TEST_F(PlanSolver, SavesBytesWithinTheBudget) {
  const SolvedPlan solved = solve({{10, {2, 2.1f, 9, 0}}, {10, {4, 5, 8, 0}}});
  EXPECT_EQ(level(solved, 0), "low_rank:4") << "0.1 more than the budget of 6";
  policy.alpha = 1.1;
  const SolvedPlan wider = solve({{10, {2, 2.1f, 9, 0}}, {10, {4, 5, 8, 0}}});
  EXPECT_EQ(level(wider, 0), "low_rank:2");
  EXPECT_EQ(level(wider, 1), "low_rank:4");
  EXPECT_NEAR(wider.plan.budget, 6.6, 1e-6);
  EXPECT_LE(wider.plan.error, wider.plan.budget);
  EXPECT_EQ(wider.plan.bytes, wider.plan.lower_bound);
  EXPECT_EQ(wider.plan.estimates[0].reason, Reason::least_bytes);
  EXPECT_EQ(wider.plan.estimates[0].chosen.bytes, 2 * 2000 * 4);
  EXPECT_EQ(wider.plan.estimates[0].reference.bytes, 4 * 2000 * 4);
  EXPECT_EQ(wider.plan.estimates[0].dense.bytes, 4e6);
  EXPECT_NEAR(wider.plan.estimates[0].chosen.error, 2.1, 1e-6);
}

TEST_F(PlanSolver, NothingIsChosenThatLosesAsMuchAsSendingNothing) {
  policy.alpha = 100;
  EXPECT_EQ(level(solve({{10, {9, 9.2f, 9.9f, 0}}, {10, {9, 9.2f, 9.9f, 0}}}), 0), "topk:0.001");
  EXPECT_EQ(level(solve({{10, {9, 9.2f, 10, 0}}, {10, {9, 9.2f, 9.9f, 0}}}), 0), "low_rank:2");
}

// It stays possible, and counts no more than the layer: better levels for it are found.
TEST_F(PlanSolver, AReferenceThatDivergesIsNoLicenceForTheOthers) {
  const SolvedPlan solved = solve({{10, {1000, 9, 9.5f, 0}}, {10, {4, 5, 8, 0}}});
  EXPECT_EQ(solved.plan.budget, 10 + 4);
  EXPECT_EQ(level(solved, 0), "low_rank:2");
  EXPECT_EQ(level(solved, 1), "low_rank:2");
  EXPECT_EQ(solved.fallbacks, 0u);
}

TEST_F(PlanSolver, LayersThatWereNotMeasuredKeepTheReference) {
  const CostRow good = {10, {2, 2, 2, 0}};
  for (const CostRow& bad : {CostRow{0, {0, 0, 0, 0}}, CostRow{kNan, {kNan, kNan, kNan, kNan}},
                             CostRow{10, {kNan, 1, 1, 0}}}) {
    const SolvedPlan solved = solve({bad, good});
    EXPECT_EQ(level(solved, 0), "low_rank:4");
    EXPECT_EQ(level(solved, 1), "topk:0.001");
    EXPECT_EQ(solved.fallbacks, 1u);
    EXPECT_EQ(solved.plan.estimates[0].reason, Reason::not_measured);
    EXPECT_TRUE(std::isfinite(solved.plan.estimates[0].chosen.error));
  }
}

TEST_F(PlanSolver, HostileRowsAreRefused) {
  EXPECT_THROW((void)solve({{10, {2, -2, 2, 0}}, {10, {2, 2, 2, 0}}}), ConfigError);
}

/// As a table in a file may have it: no norms, and no dense size.
LevelRow row_of_file(std::vector<double> errors) {
  return {.name = "layer",
          .levels = {parse_level("quantize:2"), parse_level("quantize:4")},
          .bytes = {2, 4},
          .errors = std::move(errors),
          .norm = std::nullopt,
          .reference = 1,
          .dense = std::nullopt};
}

TEST(PlanSolverOfATable, NormsAndDenseSizesNeedNotBeKnown) {
  const LGrecoPolicy policy{.alpha = 2};
  const std::vector<LevelRow> layers = {row_of_file({2, 1})};
  const SolvedPlan solved = solve_plan({.policy = policy, .layers = layers});
  EXPECT_EQ(solved.plan.levels[0], parse_level("quantize:2"));
  EXPECT_EQ(solved.plan.budget, 2);
  EXPECT_EQ(solved.plan.estimates[0].dense, Estimate{});
  EXPECT_TRUE(solved.feasible);
}

TEST(PlanSolverOfATable, WithoutAFiniteErrorTheReferenceStays) {
  const LGrecoPolicy policy{.alpha = 2};
  const std::vector<LevelRow> layers = {row_of_file({1, INFINITY}), row_of_file({2, 1})};
  const SolvedPlan solved = solve_plan({.policy = policy, .layers = layers});
  EXPECT_EQ(solved.plan.levels[0], parse_level("quantize:4"));
  EXPECT_EQ(solved.plan.estimates[0].reason, Reason::not_measured);
  EXPECT_EQ(solved.plan.levels[1], parse_level("quantize:2"));
  EXPECT_EQ(solved.plan.budget, 2);
}

TEST(PlanSolverOfATable, SaysWhenNothingFits) {
  const LGrecoPolicy policy{.alpha = 0.5};
  const std::vector<LevelRow> layers = {row_of_file({2, 1})};
  const SolvedPlan solved = solve_plan({.policy = policy, .layers = layers});
  EXPECT_FALSE(solved.feasible);
  EXPECT_EQ(solved.plan.levels[0], parse_level("quantize:4"));
  EXPECT_EQ(solved.plan.estimates[0].reason, Reason::nothing_fits);
}

TEST(PlanSolverOfATable, IncompleteRowsAreRefused) {
  const LGrecoPolicy policy, for_time{.objective = LGrecoPolicy::Objective::time};
  std::vector<LevelRow> layers = {row_of_file({2, 1, 0})};
  EXPECT_THROW((void)solve_plan({.policy = policy, .layers = layers}), ConfigError);
  layers = {row_of_file({2, 1})};
  EXPECT_THROW((void)solve_plan({.policy = for_time, .layers = layers}), ConfigError);
  layers[0].reference = 2;
  EXPECT_THROW((void)solve_plan({.policy = policy, .layers = layers}), ConfigError);
}

class TimeObjective : public PlanSolver {
 protected:
  TimeObjective() {
    policy.objective = LGrecoPolicy::Objective::time;
    codec_seconds.assign(2, {0.010, 0.008, 0.005, 0.001});
  }
  const std::vector<CostRow> rows = {{10, {5, 6, 5, 0}}, {10, {5, 6, 5, 0}}};
};

TEST_F(TimeObjective, CompressesOnASlowNetwork) {
  const SolvedPlan solved = solve(rows);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(level(solved, i), "topk:0.001");
    EXPECT_EQ(solved.plan.estimates[i].reason, Reason::least_time);
    EXPECT_LT(solved.plan.estimates[i].chosen.seconds, solved.plan.estimates[i].dense.seconds);
  }
  EXPECT_EQ(solved.plan.lower_bound, 0);
}

TEST_F(TimeObjective, PassesThroughOnAFastOne) {
  network.bandwidth = 1e10;
  const SolvedPlan solved = solve(rows);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(level(solved, i), "dense");
    EXPECT_EQ(solved.plan.estimates[i].reason, Reason::dense_is_faster);
  }
}

TEST_F(TimeObjective, LayersThatWereNotMeasuredKeepTheReferenceWhereItsFamilyIsSent) {
  const CostRow nothing = {0, {0, 0, 0, 0}};
  references.assign(2, parse_level("topk:0.001"));
  EXPECT_EQ(level(solve({nothing, rows[1]}), 0), "topk:0.001");
  references.assign(2, parse_level("low_rank:4"));
  network.latency = 100;  // nothing is worth two more collectives
  const SolvedPlan solved = solve({nothing, rows[1]});
  EXPECT_EQ(level(solved, 0), "dense");
  EXPECT_EQ(level(solved, 1), "topk:0.001");
}

// A 16-bit layer whose mean does not fit its own type: there must still be something to choose.
TEST_F(TimeObjective, DenseIsAlwaysPossible) {
  const float infinity = std::numeric_limits<float>::infinity();
  const CostRow row = {10, {5, 6, 5, infinity}};
  network.latency = 1;
  EXPECT_NO_THROW((void)solve({row, row}));
}

// Low rank would save 4 ms on the wire and costs two more collectives.
TEST_F(TimeObjective, LowRankMustPayForItsCollectives) {
  for (Candidates& levels : candidates) {
    levels = {parse_level("low_rank:4"), parse_level("quantize:1"), Level{}};
  }
  codec_seconds.assign(2, {0.010, 0.010, 0.001});
  network.bandwidth = 1e8;
  const std::vector<CostRow> equal = {{10, {5, 5, 0}}, {10, {5, 5, 0}}};
  network.latency = 1e-5;
  EXPECT_EQ(level(solve(equal), 0), "low_rank:4");
  network.latency = 1e-2;
  EXPECT_EQ(level(solve(equal), 0), "quantize:1");
}

}  // namespace
}  // namespace lgreco
