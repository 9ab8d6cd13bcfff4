#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "lgreco/aggregator.h"
#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"
#include "tests/some_state.h"

namespace lgreco {
namespace {

constexpr std::size_t kCount = 1000;

std::vector<float> draw(std::mt19937& generator) {
  std::normal_distribution<float> normal;
  std::vector<float> values(kCount);
  for (float& value : values) value = normal(generator);
  return values;
}

/// What `size` ranks of one run saved. Residuals differ, factors do not; the last rank measures.
std::vector<AggregatorState> saved_by(int size) {
  std::mt19937 generator(static_cast<unsigned>(size));
  std::vector<AggregatorState> states;
  for (int rank = 0; rank < size; ++rank) {
    AggregatorState state = some_state();
    state.rank = rank;
    state.size = size;
    state.stats.bytes_sent = 100 + static_cast<std::uint64_t>(rank);
    state.layers[0].residual = draw(generator);
    if (rank == size - 1) {
      state.layers[0].window = {1, 2, 3};
      state.layers[0].window_steps = 2;
    }
    state.layers[2].window.clear();
    state.layers[2].window_steps = 0;
    states.push_back(state);
  }
  std::shuffle(states.begin(), states.end(), generator);
  return states;
}

std::vector<AggregatorState> resized(const std::vector<AggregatorState>& states, int size) {
  std::vector<AggregatorState> result;
  for (int rank = 0; rank < size; ++rank) result.push_back(resize(states, rank, size));
  return result;
}

std::vector<double> mean_residual_of(const std::vector<AggregatorState>& states) {
  std::vector<double> mean(kCount);
  for (const AggregatorState& state : states) {
    const std::vector<float>& values = state.layers[0].residual;
    for (std::size_t i = 0; i < kCount; ++i) {
      mean[i] += values.at(i) / static_cast<double>(states.size());
    }
  }
  return mean;
}

double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

TEST(Resize, KeepsWhatAllRanksTogetherHaveNotSent) {
  for (const int old_size : {1, 2, 3, 4, 8}) {
    const auto before = saved_by(old_size);
    for (const int new_size : {1, 2, 3, 4, 8}) {
      const auto after = resized(before, new_size);
      EXPECT_LT(relative_distance(mean_residual_of(after), mean_residual_of(before)), 1e-6)
          << old_size << " to " << new_size;
    }
  }
}

TEST(KeepResiduals, KeepsWhatAllRanksTogetherHaveNotSent) {
  for (const int old_size : {1, 2, 3, 4, 8}) {
    const auto before = saved_by(old_size);
    const std::vector<std::string> layers = before[0].plan.layers;
    for (const int new_size : {1, 2, 3, 4, 8}) {
      std::vector<AggregatorState> after;
      for (int rank = 0; rank < new_size; ++rank) {
        after.push_back(keep_residuals(before, layers, rank, new_size));
      }
      EXPECT_LT(relative_distance(mean_residual_of(after), mean_residual_of(before)), 1e-6)
          << old_size << " to " << new_size;
    }
  }
}

TEST(KeepResiduals, EachRankKeepsItsOwn) {
  auto before = saved_by(2);
  std::ranges::sort(before, {}, &AggregatorState::rank);
  const std::vector<std::string> layers = before[0].plan.layers;
  const auto residual = [&](int rank, int size) {
    return keep_residuals(before, layers, rank, size).layers[0].residual;
  };
  for (std::size_t i = 0; i < kCount; ++i) {
    const float first = before[0].layers[0].residual[i], second = before[1].layers[0].residual[i];
    EXPECT_EQ(residual(0, 2)[i], first);
    EXPECT_EQ(residual(1, 2)[i], second);
    EXPECT_EQ(residual(0, 4)[i], 2 * first) << "one of four, where it was one of two";
    EXPECT_EQ(residual(1, 4)[i], 2 * second);
    EXPECT_EQ(residual(3, 4)[i], 0);
    EXPECT_FLOAT_EQ(residual(0, 1)[i], (first + second) / 2);
    if (i == 20) break;
  }
  EXPECT_EQ(keep_residuals(before, layers, 0, 4).plan.hash(), before[0].plan.hash());
  EXPECT_THROW(keep_residuals({&before[0], 1}, layers, 0, 1), StateError);
}

TEST(Resize, KeepsWhatIsTheSameOnAllRanks) {
  const auto states = resized(saved_by(3), 4);
  for (int rank = 0; rank < 4; ++rank) {
    const AggregatorState& state = states[static_cast<std::size_t>(rank)];
    EXPECT_EQ(state.rank, rank);
    EXPECT_EQ(state.size, 4);
    EXPECT_EQ(state.step, some_state().step);
    EXPECT_EQ(state.grad_scale, some_state().grad_scale);
    EXPECT_EQ(state.plan.hash(), some_state().plan.hash());
    EXPECT_EQ(state.layers[0].factor, some_state().layers[0].factor);
    EXPECT_EQ(state.layers[0].window, (std::vector<float>{1, 2, 3})) << "any rank may measure now";
    EXPECT_EQ(state.layers[0].window_steps, 2u);
    EXPECT_TRUE(state.layers[2].window.empty());
    EXPECT_EQ(state.layers[2].interval_sum, some_state().layers[2].interval_sum);
    EXPECT_FALSE(state.layers[2].critical);
    EXPECT_FALSE(state.critical);
    EXPECT_EQ(state.stats.bytes_sent, 100u + static_cast<std::uint64_t>(std::min(rank, 2)));
    EXPECT_TRUE(state.layers[1].residual.empty());
  }
}

TEST(Resize, TheLongestWindowGoesOn) {
  auto states = saved_by(3);
  for (AggregatorState& state : states) {
    state.layers[0].window = {0, 0, static_cast<float>(state.rank)};
    state.layers[0].window_steps = state.rank == 1 ? 5 : 2;
  }
  const AggregatorState resized = resize(states, 0, 2);
  EXPECT_EQ(resized.layers[0].window_steps, 5u);
  EXPECT_EQ(resized.layers[0].window[2], 1);
}

TEST(Resize, NothingYetCountsAsZeros) {
  auto states = saved_by(2);
  states[0].layers[0].residual.clear();
  const auto kept = states[1].layers[0].residual;
  const auto mean = resize(states, 0, 1).layers[0].residual;
  ASSERT_EQ(mean.size(), kCount);
  for (std::size_t i = 0; i < kCount; ++i) EXPECT_EQ(mean[i], kept[i] / 2);
}

TEST(Resize, RefusesStatesThatDoNotBelongTogether) {
  const auto refuses = [](auto change, const std::string& what, const std::string& who) {
    auto states = saved_by(3);
    std::sort(states.begin(), states.end(), [](auto& a, auto& b) { return a.rank < b.rank; });
    change(states);
    try {
      resize(states, 0, 2);
      ADD_FAILURE() << what << " was accepted";
    } catch (const StateError& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(what), std::string::npos) << message;
      EXPECT_NE(message.find(who), std::string::npos) << message;
    }
  };
  using States = std::vector<AggregatorState>;
  refuses([](States& s) { s.clear(); }, "no states", "");
  refuses([](States& s) { s.pop_back(); }, "run of 3 ranks", "2 states");
  refuses([](States& s) { s[2].rank = 1; }, "twice", "rank 1");
  refuses([](States& s) { s[2].rank = 3; }, "cannot be", "rank 3");
  refuses([](States& s) { s[1].size = 4; }, "run of 4 ranks", "rank 1");
  refuses([](States& s) { ++s[2].step; }, "another step", "rank 2");
  refuses([](States& s) { s[2].grad_scale = 1; }, "gradient scale", "rank 2");
  refuses([](States& s) { s[1].plan.levels[0] = Level{}; }, "plan hash", "rank 1");
  refuses([](States& s) { ++s[1].plan.version; }, "plan version", "rank 1");
  refuses([](States& s) { s[1].layers.pop_back(); }, "number of layers", "rank 1");
  refuses([](States& s) { s[1].plan.levels.pop_back(); }, "number of layers", "rank 1");
  refuses([](States& s) { s[2].layers[0].factor[1] = 3; }, "factor", "rank 2");
  refuses([](States& s) { s[2].layers[2].interval_norm = 0; }, "interval", "rank 2");
  refuses([](States& s) { s[1].layers[2].interval_sum[1] = 0; }, "interval", "rank 1");
  refuses([](States& s) { s[1].layers[0].critical = false; }, "interval", "rank 1");
  refuses([](States& s) { s[2].layers[0].residual.pop_back(); }, "size", "rank 2");
}

/// What two nodes of two ranks saved, of which the first owns layers 0 and 2, the second layer 1.
std::vector<AggregatorState> saved_by_nodes() {
  std::vector<AggregatorState> states;
  for (AggregatorState& whole : saved_by(2)) {
    for (const std::vector<std::size_t>& own : {std::vector<std::size_t>{0, 2}, {1}, {}}) {
      AggregatorState& state = states.emplace_back(whole);
      state.layers.clear();
      state.plan.layers.clear();
      state.plan.levels.clear();
      state.plan.estimates.clear();
      for (const std::size_t layer : own) {
        state.layers.push_back(whole.layers[layer]);
        state.plan.layers.push_back(whole.plan.layers[layer]);
        state.plan.levels.push_back(whole.plan.levels[layer]);
        if (!whole.plan.estimates.empty()) {
          state.plan.estimates.push_back(whole.plan.estimates[layer]);
        }
      }
    }
  }
  return states;
}

TEST(Resize, LayersAreFoundByNameWhoeverHeldThem) {
  const auto before = saved_by(2), of_nodes = saved_by_nodes();
  const std::vector<std::string> all = before[0].plan.layers;
  const AggregatorState flat = resize(before, all, 0, 4);
  const AggregatorState joined = resize(of_nodes, all, 0, 4);
  EXPECT_EQ(serialize(joined), serialize(flat)) << "from nodes to flat";
  const std::vector<std::string> some = {all[1], all[0]};
  const AggregatorState part = resize(of_nodes, some, 2, 3);
  EXPECT_EQ(part.plan.layers, some);
  EXPECT_EQ(part.plan.levels[1], flat.plan.levels[0]);
  EXPECT_EQ(part.layers[1].residual, flat.layers[0].residual);
  EXPECT_EQ(part.layers[1].window, flat.layers[0].window);
  EXPECT_EQ(part.rank, 2);
  EXPECT_EQ(part.plan.bytes, flat.plan.bytes) << "of the whole model";
  EXPECT_TRUE(resize(of_nodes, std::vector<std::string>(), 0, 1).layers.empty());
  const AggregatorState reset = reset_residuals({&before[0], 1}, some, 1, 2);
  EXPECT_EQ(reset.plan.layers, some);
  EXPECT_EQ(reset.layers[1].factor, flat.layers[0].factor);
  EXPECT_TRUE(reset.layers[1].residual.empty() && reset.layers[1].window.empty());
}

TEST(Resize, AllRanksThatHeldALayerAreNeeded) {
  const std::vector<std::string> all = some_state().plan.layers;
  for (std::size_t left_out = 0; left_out < 6; ++left_out) {
    auto states = saved_by_nodes();
    states.erase(states.begin() + static_cast<std::ptrdiff_t>(left_out));
    EXPECT_THROW(resize(states, all, 0, 2), StateError) << left_out;
  }
  auto states = saved_by_nodes();
  std::erase_if(states, [](const auto& state) { return state.layers.size() == 1; });
  EXPECT_THROW(resize(states, all, 0, 2), StateError) << "nobody has layer 1";
  states = saved_by_nodes();
  ++states.back().step;
  EXPECT_THROW(resize(states, all, 0, 2), StateError);
}

TEST(Resize, SeveralRanksOfANodeMayHaveNothing) {
  auto states = saved_by(2);  // of two nodes, whose other two ranks own no layer
  const std::vector<std::string> all = states[0].plan.layers;
  for (int rank : {0, 1, 0, 1}) {
    AggregatorState nothing = states[static_cast<std::size_t>(rank)];
    nothing.layers.clear();
    nothing.plan.layers.clear();
    nothing.plan.levels.clear();
    nothing.plan.estimates.clear();
    states.push_back(nothing);
  }
  EXPECT_EQ(resize(states, all, 0, 2).plan.layers, all);
  states.pop_back();
  EXPECT_THROW(resize(states, all, 0, 2), StateError);
}

TEST(Resize, TheNewRankMustExist) {
  const auto states = saved_by(2);
  EXPECT_THROW(resize(states, 2, 2), ConfigError);
  EXPECT_THROW(resize(states, -1, 2), ConfigError);
  EXPECT_THROW(resize(states, 0, 0), ConfigError);
}

// Two ranks train, three go on: the states load, and the first step sends the mean debt.
TEST(Resize, ARunGoesOnWithMoreRanks) {
  const std::vector<LayerSpec> model = {{.name = "wide", .shape = {64, 64}},
                                        {.name = "long", .shape = {9000}}};
  const auto gradients = [&](int rank) {
    std::mt19937 generator(static_cast<unsigned>(rank));
    std::normal_distribution<float> normal;
    std::vector<std::vector<float>> values;
    for (const LayerSpec& layer : model) {
      for (float& value : values.emplace_back(layer.count())) value = normal(generator);
    }
    return values;
  };
  const auto average = [](Aggregator& aggregator, std::vector<std::vector<float>>& values) {
    aggregator.exchange({.gradients = {{.layer = 0, .data = values[0].data()},
                                       {.layer = 1, .data = values[1].data()}}});
  };
  for (const char* method : {"low_rank:2:min_ratio=1", "topk:0.1", "quantize:2"}) {
    std::vector<AggregatorState> states(2);
    run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
      const auto rank = static_cast<std::size_t>(lanes[0]->rank());
      Aggregator aggregator(model, {.method = parse_level(method)}, std::move(lanes));
      auto values = gradients(static_cast<int>(rank));
      average(aggregator, values);
      states[rank] = aggregator.state();
    });
    std::vector<std::vector<std::vector<float>>> results(3);
    run_ranks_on_lanes(3, 1, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      Aggregator aggregator(model, {.method = parse_level(method)}, std::move(lanes));
      aggregator.load_state(resize(states, rank, 3));
      auto& values = results[static_cast<std::size_t>(rank)];
      values = gradients(rank);
      average(aggregator, values);
      EXPECT_EQ(aggregator.stats().steps, 2u);
    });
    EXPECT_EQ(results[0], results[1]) << method;
    EXPECT_EQ(results[0], results[2]) << method;
  }
}

}  // namespace
}  // namespace lgreco
