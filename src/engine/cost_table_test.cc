#include "src/engine/cost_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

namespace lgreco {
namespace {

std::vector<std::string> spelled(const Candidates& candidates) {
  std::vector<std::string> levels;
  for (const Level& level : candidates) levels.push_back(to_string(level));
  return levels;
}

using Spelled = std::vector<std::string>;

TEST(CostTable, CandidatesAreTheNeighboursThatSuitTheLayer) {
  const std::vector<Level> references = {parse_level("low_rank:2:min_ratio=1")};
  const LayerSpec wide{.name = "wide", .shape = {64, 128}};
  const LayerSpec small{.name = "small", .shape = {3, 5}};
  const LayerSpec bias{.name = "bias", .shape = {64}};
  EXPECT_EQ(spelled(candidates_of({}, references, wide)),
            (Spelled{"low_rank:2:min_ratio=1", "low_rank:1:min_ratio=1", "low_rank:3:min_ratio=1",
                     "low_rank:4:min_ratio=1", "dense"}));
  EXPECT_EQ(spelled(candidates_of({}, references, small)),
            (Spelled{"low_rank:1:min_ratio=1", "dense"}));
  EXPECT_EQ(spelled(candidates_of({.reference_layers_only = true}, references, small)),
            (Spelled{"dense"}));
  EXPECT_EQ(spelled(candidates_of({}, references, bias)), (Spelled{"dense"}));
}

TEST(CostTable, CandidatesOfTwoReferencesAreThoseOfBoth) {
  const std::vector<Level> references = {parse_level("quantize:8"), parse_level("quantize:2")};
  const LayerSpec layer{.name = "layer", .shape = {64, 128}};
  const auto levels = spelled(candidates_of({}, references, layer));
  EXPECT_EQ(std::set<std::string>(levels.begin(), levels.end()).size(), levels.size());
  EXPECT_EQ(levels.size(), 8u + 1);  // 1 to 8 bits, and dense
  EXPECT_EQ(levels.back(), "dense");
}

Membership model() {
  std::vector<LayerSpec> layers;
  for (int i = 0; i < 9; ++i) {
    layers.push_back({.name = std::to_string(i), .shape = {16 << (i % 3), 256}});
  }
  return one_group(layers, {.rank = 0, .ranks = 3});
}

TEST(CostTable, RanksMeasureEqualShares) {
  const Membership membership = model();
  const std::vector<ModelLayer>& layers = membership.layers;
  const Candidates candidates = {parse_level("low_rank:1"), Level{}};
  const std::vector<Candidates> all(layers.size(), candidates);
  const auto ranks = measuring_ranks(membership, all, 0);
  std::vector<std::size_t> elements(3, 0);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    elements[static_cast<std::size_t>(ranks[i])] += layers[i].shape.count();
  }
  EXPECT_EQ(elements[0], elements[1]);
  EXPECT_EQ(elements[0], elements[2]);
}

TEST(CostTable, EveryRankMeasuresEveryLayerInTurn) {
  const Membership layers = model();
  const std::vector<Candidates> all(9, {parse_level("low_rank:1"), Level{}});
  std::vector<std::set<int>> seen(9);
  for (std::uint64_t number = 0; number < 3; ++number) {
    const auto ranks = measuring_ranks(layers, all, number);
    for (std::size_t i = 0; i < 9; ++i) seen[i].insert(ranks[i]);
  }
  for (const auto& ranks : seen) EXPECT_EQ(ranks, (std::set<int>{0, 1, 2}));
}

TEST(CostTable, RowsAreOfTheMeanOfTheWindow) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  const MatrixShape shape{.rows = 32, .cols = 64};
  Window window{.sum = std::vector<float>(shape.count()), .steps = 4};
  for (float& value : window.sum) value = normal(generator);
  Window quarter = window;
  for (float& value : quarter.sum) value /= 4;
  quarter.steps = 1;
  const Candidates candidates = {parse_level("low_rank:4"), parse_level("quantize:4"), Level{}};
  const CostRow row = measure_row(window, shape, candidates, 1);
  const CostRow same = measure_row(quarter, shape, candidates, 1);
  EXPECT_EQ(row.norm, same.norm);
  EXPECT_EQ(row.errors, same.errors);
  EXPECT_NEAR(row.norm, std::sqrt(32.0 * 64.0) / 4, 0.5);
  EXPECT_EQ(row.errors.back(), 0);
  const CostRow nothing = measure_row({}, shape, candidates, 1);
  EXPECT_TRUE(std::isnan(nothing.norm));
  EXPECT_TRUE(std::isnan(nothing.errors[0]));
}

}  // namespace
}  // namespace lgreco
