#include "lgreco/planner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "lgreco/status.h"

namespace lgreco {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Instance {
  std::vector<PlannerRow> rows;
  std::vector<std::size_t> reference;
  double budget = 0;
};

// Levels in random order: costs from 1 on, errors falling with the cost or anyhow.
Instance random_instance(unsigned seed, std::size_t layers, std::size_t levels, double scale = 1) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  const bool decreasing = seed % 2 == 0;
  Instance instance;
  for (std::size_t i = 0; i < layers; ++i) {
    PlannerRow& row = instance.rows.emplace_back();
    const double size = std::floor(1 + 1000 * uniform(generator));
    for (std::size_t c = 0; c < levels; ++c) {
      const double level = std::floor(1 + 20 * uniform(generator));
      row.costs.push_back(size * level);
      row.errors.push_back(
          scale * (decreasing ? size * uniform(generator) / level : size * uniform(generator)));
    }
    instance.reference.push_back(static_cast<std::size_t>(uniform(generator) * levels));
    instance.budget += row.errors[instance.reference.back()];
  }
  return instance;
}

double cost_of(const Instance& instance, std::span<const std::size_t> choice) {
  double cost = 0;
  for (std::size_t i = 0; i < choice.size(); ++i) cost += instance.rows[i].costs[choice[i]];
  return cost;
}

double error_of(const Instance& instance, std::span<const std::size_t> choice) {
  double error = 0;
  for (std::size_t i = 0; i < choice.size(); ++i) error += instance.rows[i].errors[choice[i]];
  return error;
}

double brute_force(const Instance& instance, double budget) {
  double best = kInfinity;
  std::vector<std::size_t> choice(instance.rows.size(), 0);
  while (true) {
    if (error_of(instance, choice) <= budget) best = std::min(best, cost_of(instance, choice));
    std::size_t i = 0;
    while (i < choice.size() && ++choice[i] == instance.rows[i].costs.size()) choice[i++] = 0;
    if (i == choice.size()) return best;
  }
}

class PlannerTest : public testing::TestWithParam<Solver> {
 protected:
  Solution run(const Instance& instance, std::size_t cells = 10'000) const {
    return solve(instance.rows, instance.budget, instance.reference,
                 {.solver = GetParam(), .cells = cells});
  }
};

INSTANTIATE_TEST_SUITE_P(Solvers, PlannerTest, testing::Values(Solver::exact, Solver::dp),
                         [](const auto& info) {
                           return info.param == Solver::exact ? "exact" : "dp";
                         });

TEST_P(PlannerTest, NeverCostsMoreThanTheReferenceNorExceedsTheBudget) {
  for (unsigned seed = 0; seed < 1000; ++seed) {
    const Instance instance = random_instance(seed, 1 + seed % 40, 1 + seed % 9);
    const Solution solution = run(instance, /*cells=*/1000);
    ASSERT_TRUE(solution.feasible) << seed;
    ASSERT_LE(solution.cost, cost_of(instance, instance.reference)) << seed;
    ASSERT_LE(solution.error, instance.budget) << seed;
    ASSERT_EQ(solution.cost, cost_of(instance, solution.choice)) << seed;
    ASSERT_EQ(solution.error, error_of(instance, solution.choice)) << seed;
    ASSERT_LE(solution.lower_bound, solution.cost) << seed;
  }
}

TEST_P(PlannerTest, BoundIsBelowTheOptimum) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    const Instance instance = random_instance(seed, 1 + seed % 6, 1 + seed % 5);
    const double optimum = brute_force(instance, instance.budget);
    ASSERT_LE(run(instance).lower_bound, optimum) << seed;
  }
}

TEST_P(PlannerTest, SameTableSamePlan) {
  const Instance instance = random_instance(5, 60, 12);
  EXPECT_EQ(run(instance).choice, run(instance).choice);
}

TEST_P(PlannerTest, ScaleDoesNotMatter) {
  for (double scale : {1e-30, 1e-12, 1e12, 1e30}) {
    const Instance instance = random_instance(6, 20, 6, scale);
    const Solution solution = run(instance);
    EXPECT_LE(solution.error, instance.budget);
    EXPECT_LE(solution.cost, cost_of(instance, instance.reference));
    EXPECT_LT(solution.cost, 1.01 * run(random_instance(6, 20, 6)).cost);
  }
}

TEST_P(PlannerTest, EmptyTable) {
  const Solution solution = run({});
  EXPECT_TRUE(solution.feasible);
  EXPECT_TRUE(solution.choice.empty());
  EXPECT_EQ(solution.cost, 0);
}

TEST_P(PlannerTest, ZeroErrorsTakeTheCheapest) {
  Instance instance{{{{5, 3, 9}, {0, 0, 0}}, {{5, 3, 9}, {0, 1, 0}}}, {0, 0}, 0};
  const Solution solution = run(instance);
  EXPECT_EQ(solution.choice, (std::vector<std::size_t>{1, 0}));
  EXPECT_EQ(solution.lower_bound, GetParam() == Solver::exact ? 8 : solution.lower_bound);
}

TEST_P(PlannerTest, NonFiniteErrorsAreNeverChosen) {
  Instance instance{{{{1, 2, 3}, {kNan, kInfinity, 0.5}}, {{1, 2}, {1, 0}}}, {2, 1}, 10};
  const Solution solution = run(instance);
  EXPECT_EQ(solution.choice, (std::vector<std::size_t>{2, 0}));
  EXPECT_TRUE(solution.fallback_layers.empty());
}

TEST_P(PlannerTest, LayersWithoutFiniteErrorKeepTheReference) {
  Instance instance{{{{4, 2}, {kNan, kNan}}, {{4, 1}, {0, 1}}}, {0, 0}, 1};
  const Solution solution = run(instance);
  EXPECT_EQ(solution.choice, (std::vector<std::size_t>{0, 1}));
  EXPECT_EQ(solution.fallback_layers, std::vector<std::size_t>{0});
  EXPECT_EQ(solution.cost, 5);
  EXPECT_EQ(solution.error, 1);
  EXPECT_TRUE(solution.feasible);
  const Solution without = solve(instance.rows, 1, std::nullopt, {.solver = GetParam()});
  EXPECT_EQ(without.choice[0], 1u) << "the cheapest without a reference";
}

TEST_P(PlannerTest, InfeasibleKeepsTheReferenceOrTheSmallestErrors) {
  Instance instance{{{{4, 2}, {1, 2}}, {{4, 1}, {3, 1}}}, {1, 0}, 0.5};
  const Solution solution = run(instance);
  EXPECT_FALSE(solution.feasible);
  EXPECT_EQ(solution.choice, (std::vector<std::size_t>{1, 0}));
  const Solution without = solve(instance.rows, 0.5, std::nullopt, {.solver = GetParam()});
  EXPECT_FALSE(without.feasible);
  EXPECT_EQ(without.choice, (std::vector<std::size_t>{0, 1}));
  EXPECT_EQ(without.error, 2);
}

TEST_P(PlannerTest, UnlimitedBudgetTakesTheCheapest) {
  Instance instance = random_instance(7, 10, 5);
  const Solution solution = solve(instance.rows, 1e300, std::nullopt, {.solver = GetParam()});
  for (std::size_t i = 0; i < 10; ++i) {
    const auto& costs = instance.rows[i].costs;
    EXPECT_EQ(costs[solution.choice[i]], *std::min_element(costs.begin(), costs.end()));
  }
}

TEST(ExactSolver, EqualsBruteForce) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    const Instance instance = random_instance(seed, 1 + seed % 6, 1 + seed % 5);
    const Solution solution = solve(instance.rows, instance.budget, instance.reference, {});
    ASSERT_EQ(solution.cost, brute_force(instance, instance.budget)) << seed;
    ASSERT_EQ(solution.lower_bound, solution.cost) << seed;
  }
}

TEST(DpSolver, EqualsBruteForceUpToTheCellRounding) {
  constexpr double kCells = 1000;
  for (unsigned seed = 0; seed < 500; ++seed) {
    const Instance instance = random_instance(seed, 1 + seed % 6, 1 + seed % 5);
    const Solution solution =
        solve(instance.rows, instance.budget, instance.reference,
              {.solver = Solver::dp, .cells = static_cast<std::size_t>(kCells)});
    const double reduced =
        instance.budget * (1 - static_cast<double>(instance.rows.size()) / kCells);
    ASSERT_LE(solution.cost, brute_force(instance, reduced)) << seed;
    ASSERT_GE(solution.cost, brute_force(instance, instance.budget)) << seed;
  }
}

TEST(ExactSolver, IsNeverCostlierThanDpAndProvesIt) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    const Instance instance = random_instance(seed, 60 + seed, 7 + seed);
    const Solution exact = solve(instance.rows, instance.budget, instance.reference, {});
    const Solution dp =
        solve(instance.rows, instance.budget, instance.reference, {.solver = Solver::dp});
    ASSERT_LE(exact.cost, dp.cost) << seed;
    ASSERT_EQ(exact.cost, exact.lower_bound) << seed;
  }
}

TEST(ExactSolver, IsMonotoneInTheBudget) {
  const Instance instance = random_instance(8, 30, 8);
  double previous = kInfinity;
  for (double part = 0.5; part < 2; part += 0.05) {
    const Solution solution = solve(instance.rows, part * instance.budget, std::nullopt, {});
    if (!solution.feasible) continue;
    EXPECT_LE(solution.cost, previous);
    previous = solution.cost;
  }
}

// Layers alike, no two costs in a simple proportion, every candidate on the hull: the worst kind.
Instance subset_sum(unsigned seed, std::size_t layers, std::size_t levels) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  Instance instance;
  for (std::size_t i = 0; i < layers; ++i) {
    PlannerRow& row = instance.rows.emplace_back();
    const double size = 0.1 + 10 * uniform(generator);
    for (std::size_t c = 0; c < levels; ++c) {
      row.errors.push_back(size * uniform(generator));
      row.costs.push_back(20 - row.errors.back() * (1 + 1e-6 * uniform(generator)));
    }
    instance.budget += size / 2;
  }
  return instance;
}

TEST(ExactSolver, StopsAtItsLimitWithABound) {
  const Instance instance = subset_sum(1, 60, 7);
  const Solution full = solve(instance.rows, instance.budget, std::nullopt, {});
  for (std::size_t max_states : {0, 1, 10, 1000, 100'000}) {
    const Solution solution =
        solve(instance.rows, instance.budget, std::nullopt, {.max_states = max_states});
    EXPECT_LE(solution.error, instance.budget);
    EXPECT_LE(solution.lower_bound, full.cost) << max_states;
    EXPECT_LT(solution.lower_bound, solution.cost) << max_states;
    EXPECT_LE(solution.cost, 1.001 * solution.lower_bound) << max_states;
    EXPECT_EQ(
        solution.choice,
        solve(instance.rows, instance.budget, std::nullopt, {.max_states = max_states}).choice);
  }
}

TEST(ExactSolver, StaysNearTheOptimumWhenStoppedEarly) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    const Instance instance = random_instance(seed, 100 + seed, 20 + seed);
    const Solution full = solve(instance.rows, instance.budget, std::nullopt, {});
    ASSERT_EQ(full.cost, full.lower_bound) << seed;
    const Solution stopped =
        solve(instance.rows, instance.budget, std::nullopt, {.max_states = 1000});
    ASSERT_LE(stopped.lower_bound, full.cost) << seed;
    ASSERT_LE(stopped.cost, 1.001 * full.cost) << seed;
  }
}

// In units of 1024 bytes the bound is raised to the next multiple, which is the optimum.
TEST(ExactSolver, CostsWithACommonUnitAreProvenAtOnce) {
  Instance instance;
  for (int i = 0; i < 200; ++i) {
    const double decay = 0.1 + 0.001 * i;
    PlannerRow& row = instance.rows.emplace_back();
    for (int rank = 1; rank <= 16; ++rank) {
      row.costs.push_back(1024 * rank);
      row.errors.push_back(std::exp(-decay * rank));
    }
    instance.budget += row.errors[4];
  }
  const Solution solution =
      solve(instance.rows, instance.budget, std::nullopt, {.max_states = 10'000});
  EXPECT_EQ(solution.cost, solution.lower_bound);
}

TEST(ExactSolver, ProvesSumsOfFractionsWithALayerThatFallsBack) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    Instance instance = random_instance(seed, 20, 6);
    for (PlannerRow& row : instance.rows) {
      for (double& cost : row.costs) cost *= 1e-7 / 3;
    }
    instance.rows[3].errors.assign(6, kNan);
    const Solution solution = solve(instance.rows, instance.budget, std::nullopt, {});
    ASSERT_EQ(solution.cost, solution.lower_bound) << seed;
  }
}

TEST(ExactSolver, TakesABudgetThatIsMetToTheLastBit) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    Instance instance = random_instance(seed, 2 + seed % 5, 1 + seed % 4);
    const Solution optimum = solve(instance.rows, instance.budget, std::nullopt, {});
    // In row order; other orders add up to a little more or less.
    const Solution again = solve(instance.rows, optimum.error, std::nullopt, {});
    ASSERT_TRUE(again.feasible) << seed;
    ASSERT_EQ(again.cost, optimum.cost) << seed;
  }
}

// The cheapest choice misses the budget by a rounding: no reason to look for it for ever.
TEST(Planner, ProvesAPlanBesideOneThatDoesNotFitByARounding) {
  const std::vector<PlannerRow> rows = {
      {{9, 10}, {1, .1}}, {{5, 7}, {.7, .5}}, {{2, 11}, {1.1, 0}}};
  const Solution solution =
      solve(rows, 1.7, std::nullopt, {.solver = Solver::exact, .max_states = 1000});
  EXPECT_EQ(solution.cost, 25);
  EXPECT_EQ(solution.lower_bound, 25);
}

TEST(Planner, RefusesWrongInput) {
  const std::vector<PlannerRow> good = {{{1}, {1}}};
  const std::vector<std::size_t> reference = {0}, outside = {1}, longer = {0, 0};
  EXPECT_THROW((void)solve(std::vector<PlannerRow>{{{}, {}}}, 1, std::nullopt, {}), ConfigError);
  EXPECT_THROW((void)solve(std::vector<PlannerRow>{{{1, 2}, {1}}}, 1, std::nullopt, {}),
               ConfigError);
  EXPECT_THROW((void)solve(std::vector<PlannerRow>{{{-1}, {1}}}, 1, std::nullopt, {}), ConfigError);
  EXPECT_THROW((void)solve(std::vector<PlannerRow>{{{kNan}, {1}}}, 1, std::nullopt, {}),
               ConfigError);
  EXPECT_THROW((void)solve(std::vector<PlannerRow>{{{1}, {-1}}}, 1, std::nullopt, {}), ConfigError);
  EXPECT_THROW((void)solve(good, kNan, std::nullopt, {}), ConfigError);
  EXPECT_THROW((void)solve(good, 1, outside, {}), ConfigError);
  EXPECT_THROW((void)solve(good, 1, longer, {}), ConfigError);
  EXPECT_THROW((void)solve(good, 1, reference, {.solver = Solver::dp, .cells = 0}), ConfigError);
}

}  // namespace
}  // namespace lgreco
