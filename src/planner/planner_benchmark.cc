// Seconds to solve tables of the size of a transformer's.

#include <benchmark/benchmark.h>

#include <cmath>
#include <random>

#include "lgreco/planner.h"

namespace lgreco {
namespace {

// Costs linear and errors falling in the level, as those of ranks.
std::vector<PlannerRow> ranks_table(std::size_t layers, std::size_t levels) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<double> uniform(0.5, 2.0);
  std::vector<PlannerRow> rows(layers);
  for (PlannerRow& row : rows) {
    const double size = std::floor(4000 * uniform(generator)), decay = uniform(generator) / 40;
    const double norm = uniform(generator);
    for (std::size_t level = 8; level < 8 + levels; ++level) {
      row.costs.push_back(size * static_cast<double>(level));
      row.errors.push_back(norm * std::exp(-decay * static_cast<double>(level)));
    }
  }
  return rows;
}

void Solve(benchmark::State& state, Solver solver) {
  const auto rows = ranks_table(160, 121);
  double budget = 0;
  for (const PlannerRow& row : rows) budget += row.errors[24];
  for (auto _ : state) {
    const Solution solution = solve(rows, budget, std::nullopt, {.solver = solver});
    benchmark::DoNotOptimize(solution.cost);
    state.counters["gap"] = solution.cost / solution.lower_bound - 1;
  }
}
BENCHMARK_CAPTURE(Solve, exact, Solver::exact)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Solve, dp, Solver::dp)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lgreco
