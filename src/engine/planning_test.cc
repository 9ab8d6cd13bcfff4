#include "src/engine/planning.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

std::vector<LayerRecord> model() {
  std::vector<LayerRecord> layers;
  layers.emplace_back(LayerSpec{.name = "a", .shape = {64, 128}});
  layers.emplace_back(LayerSpec{.name = "b", .shape = {128, 64}});
  layers.emplace_back(LayerSpec{.name = "bias", .shape = {64}});
  return layers;
}

AggregatorOptions options(LGrecoPolicy policy) {
  return {.method = parse_level("low_rank:4:min_ratio=1"), .policy = std::move(policy)};
}

// Layer a has rank 1 and layer b is noise: a can do with fewer ranks.
void fill_windows(std::vector<LayerRecord>& layers) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (LayerRecord& layer : layers) {
    layer.window.resize(layer.shape.count());
    layer.window_steps = 1;
    for (std::size_t i = 0; i < layer.window.size(); ++i) {
      const bool low_rank = layer.spec.name == "a";
      layer.window[i] = low_rank ? static_cast<float>(i % layer.shape.cols) : normal(generator);
    }
  }
}

TEST(Planning, CollectsTheWindowBeforeEachPlan) {
  const auto layers = model();
  const Planning planning(layers, options({.every = 100, .start = 50, .window = 3}));
  for (std::uint64_t step = 0; step < 400; ++step) {
    const bool before_plan =
        step == 47 || step == 48 || step == 49 ||
        (step > 50 && (step % 100 == 47 || step % 100 == 48 || step % 100 == 49));
    EXPECT_EQ(planning.collects(step), before_plan) << step;
    EXPECT_EQ(planning.due(step), step % 100 == 50) << step;
  }
}

TEST(Planning, NeverCostsMoreThanTheReferenceAndKeepsTheBudget) {
  run_ranks(2, [](std::unique_ptr<Communicator> comm) {
    auto layers = model();
    const Planning planning(layers, options({.every = 10, .start = 10, .window = 1}));
    const Plan first = planning.first_plan();
    fill_windows(layers);
    Stats stats;
    const Plan plan = planning.next_plan(10, first, layers, *comm, soon(), stats);
    EXPECT_LT(plan.bytes, first.bytes);
    EXPECT_LE(plan.error, plan.budget);
    EXPECT_LE(plan.lower_bound, plan.bytes);
    EXPECT_EQ(plan.version, 1u);
    EXPECT_EQ(plan.step, 10u);
    EXPECT_EQ(plan.levels[0].parameter, 2) << "the layer of rank 1 gets the least";
    EXPECT_EQ(plan.levels[2].method, Method::dense);
    EXPECT_EQ(stats.plans, 1u);
    EXPECT_EQ(stats.plan_fallbacks, 0u);
    for (const LayerRecord& layer : layers) EXPECT_TRUE(layer.window.empty());
  });
}

TEST(Planning, ZeroAndUnseenLayersKeepTheReference) {
  run_ranks(2, [](std::unique_ptr<Communicator> comm) {
    auto layers = model();
    const Planning planning(layers, options({.every = 10, .start = 10, .window = 1}));
    fill_windows(layers);
    std::fill(layers[0].window.begin(), layers[0].window.end(), 0.0f);
    if (comm->rank() == 1) {  // one rank saw no finite gradient of b
      layers[1].window.clear();
      layers[1].window_steps = 0;
    }
    Stats stats;
    const Plan first = planning.first_plan();
    const Plan plan = planning.next_plan(10, first, layers, *comm, soon(), stats);
    EXPECT_EQ(plan.levels, first.levels);
    EXPECT_EQ(plan.version, 0u);
    EXPECT_EQ(stats.plan_fallbacks, 2u);
  });
}

TEST(Planning, ReferenceLayersOnlyLeavesTheOthersDense) {
  auto layers = model();
  layers.emplace_back(LayerSpec{.name = "small", .shape = {7, 7}});  // too small for rank 4
  LGrecoPolicy all{.every = 10, .start = 10, .window = 1};
  LGrecoPolicy some = all;
  some.reference_layers_only = true;
  for (const bool only : {false, true}) {
    auto records = model();
    records.emplace_back(LayerSpec{.name = "small", .shape = {7, 7}});
    fill_windows(records);
    std::fill(records[3].window.begin(), records[3].window.end(), 1.0f);  // rank 1
    const Planning planning(records, options(only ? some : all));
    auto comm = std::move(thread_communicators(1)[0]);
    Stats stats;
    const Plan plan = planning.next_plan(10, planning.first_plan(), records, *comm, soon(), stats);
    EXPECT_EQ(plan.levels[3].method, only ? Method::dense : Method::low_rank);
  }
}

TEST(Planning, StartsDenseWhenAskedTo) {
  const auto layers = model();
  AggregatorOptions settings{.method = parse_level("quantize:4"), .start = 5};
  const Planning planning(layers, settings);
  for (const Level& level : planning.first_plan().levels) EXPECT_EQ(level.method, Method::dense);
  EXPECT_TRUE(planning.due(5));
  EXPECT_FALSE(planning.due(6));
}

TEST(Planning, PlansNoEarlierThanCompressionStarts) {
  const auto layers = model();
  AggregatorOptions late = options({.every = 10, .start = 10, .window = 2});
  late.start = 25;
  const Planning planning(layers, late);
  for (std::uint64_t step = 0; step < 40; ++step) {
    EXPECT_EQ(planning.due(step), step == 25 || step == 35) << step;
    EXPECT_EQ(planning.collects(step), step == 23 || step == 24 || step == 33 || step == 34)
        << step;
  }
}

TEST(Planning, RefusesWrongSettings) {
  const auto layers = model();
  EXPECT_THROW(Planning(layers, options({.every = 0})), ConfigError);
  EXPECT_THROW(Planning(layers, options({.window = 0})), ConfigError);
  EXPECT_THROW(Planning(layers, options({.every = 5, .window = 6})), ConfigError);
  EXPECT_THROW(Planning(layers, options({.alpha = std::nan("")})), ConfigError);
  FixedPolicy fixed;
  fixed.levels.emplace("c", Level{});
  EXPECT_THROW(Planning(layers, {.method = Level{}, .policy = fixed}), ConfigError);
}

}  // namespace
}  // namespace lgreco
