// One state for all ranks: the same everywhere, that which resize() makes of theirs, and loaded by
// any number of them.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "lgreco/aggregator.h"
#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

const std::vector<LayerSpec> kModel = {{.name = "wide", .shape = {64, 96}},
                                       {.name = "bias", .shape = {7}},
                                       {.name = "long", .shape = {9001}},
                                       {.name = "nothing", .shape = {0}}};
const char* const kMethods[] = {"dense",     "cast:bf16",   "quantize:2",
                                "topk:0.05", "entropy:0.5", "low_rank:2:min_ratio=1"};

void average(Aggregator& aggregator, int seed, bool leaves_out_first = false) {
  std::mt19937 generator(static_cast<unsigned>(seed));
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> values;
  Bucket bucket;
  for (std::size_t i = 0; i < aggregator.layers().size(); ++i) {
    values.emplace_back(aggregator.layers()[i].count());
    for (float& value : values.back()) value = normal(generator);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    bucket.gradients.push_back(
        {.layer = i, .data = values[i].data(), .present = i > 0 || !leaves_out_first});
  }
  aggregator.exchange(bucket);
}

std::vector<std::string> names(const std::vector<LayerSpec>& layers) {
  std::vector<std::string> names;
  for (const LayerSpec& layer : layers) names.push_back(layer.name);
  return names;
}

struct Saved {
  std::vector<AggregatorState> own, portable;
};

using Options = AggregatorOptions;

/// After `steps` steps of `ranks` ranks.
Saved saved_by(int ranks, int steps, const Options& options) {
  Saved saved{std::vector<AggregatorState>(static_cast<std::size_t>(ranks)), {}};
  saved.portable = saved.own;
  run_ranks_on_lanes(ranks, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    Aggregator aggregator(kModel, options, std::move(lanes));
    for (int step = 0; step < steps; ++step) average(aggregator, 100 * step + rank);
    const auto at = static_cast<std::size_t>(rank);
    saved.own[at] = aggregator.state();
    saved.portable[at] = aggregator.portable_state();
    EXPECT_EQ(checksum(aggregator.state()), checksum(saved.own[at])) << "it changed something";
  });
  return saved;
}

/// By resize(), which sees all states at once.
AggregatorState expected_of(const std::vector<AggregatorState>& states,
                            const std::vector<LayerSpec>& model) {
  AggregatorState state = resize(states, names(model), 0, 1);
  state.size = 0;
  return state;
}

TEST(PortableState, IsTheSameEverywhereAndWhatResizeMakes) {
  for (const char* method : kMethods) {
    for (const int ranks : {1, 2, 3, 4}) {
      for (const int steps : {0, 1, 4}) {
        Options options{.method = parse_level(method)};
        if (ranks > 1) options.policy = LGrecoPolicy{.every = 6, .start = 6, .window = 3};
        const Saved saved = saved_by(ranks, steps, options);
        const auto expected = serialize(expected_of(saved.own, kModel));
        for (const AggregatorState& portable : saved.portable) {
          EXPECT_TRUE(portable.is_portable());
          EXPECT_EQ(serialize(portable), expected) << method << ", " << ranks << " ranks";
        }
        EXPECT_EQ(serialize(parse_state(expected)), expected);
      }
    }
  }
}

TEST(PortableState, HasTheWindowOfWhoMeasures) {
  Options options{.method = parse_level("quantize:4")};
  options.policy = LGrecoPolicy{.every = 6, .start = 6, .window = 3};
  const Saved saved = saved_by(3, 5, options);
  std::size_t windows = 0;
  for (const LayerState& layer : saved.portable[0].layers) windows += layer.window_steps > 0;
  EXPECT_GT(windows, 0u);
}

TEST(PortableState, RanksWithoutAResidualCountAsZeros) {
  Options options{.method = parse_level("quantize:2")};
  run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    Aggregator aggregator(kModel, options, std::move(lanes));
    average(aggregator, rank);
    AggregatorState own = aggregator.state();
    if (rank == 1) own.layers[0].residual.clear();
    aggregator.load_state(own);
    const AggregatorState portable = aggregator.portable_state();
    if (rank == 1) return;
    for (std::size_t i = 0; i < portable.layers[0].residual.size(); ++i) {
      ASSERT_EQ(portable.layers[0].residual[i], own.layers[0].residual[i] / 2);
    }
  });
}

TEST(PortableState, AnyNumberOfRanksGoesOn) {
  for (const char* method : kMethods) {
    Options options{.method = parse_level(method)};
    options.policy = LGrecoPolicy{.every = 6, .start = 6, .window = 3};
    const AggregatorState portable = saved_by(3, 4, options).portable[0];
    for (const int ranks : {1, 2, 3, 5}) {
      run_ranks_on_lanes(ranks, 1, [&](Communicators lanes) {
        const int rank = lanes[0]->rank();
        Aggregator aggregator(kModel, options, std::move(lanes));
        if (rank == 0) average(aggregator, 7);
        if (rank != 0) average(aggregator, 8);
        aggregator.load_state(portable);
        const AggregatorState loaded = aggregator.state();
        EXPECT_EQ(loaded.size, ranks);
        for (std::size_t i = 0; i < kModel.size(); ++i) {
          EXPECT_EQ(loaded.layers[i].residual, portable.layers[i].residual);
          EXPECT_EQ(loaded.layers[i].factor, portable.layers[i].factor);
        }
        for (int step = 4; step < 9; ++step) average(aggregator, 100 * step + rank);
        EXPECT_EQ(aggregator.stats().steps, 9u);
        EXPECT_EQ(aggregator.stats().plan_failures, 0u) << aggregator.stats().plan_failure;
      });
    }
  }
}

TEST(PortableState, WhatDoesNotFitIsRefusedEverywhere) {
  const Options options{.method = parse_level("quantize:2")};
  const AggregatorState portable = saved_by(2, 2, options).portable[0];
  const auto is_refused = [&](const auto& change) {
    run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      Aggregator aggregator(kModel, options, std::move(lanes));
      average(aggregator, rank);
      const auto before = checksum(aggregator.state());
      AggregatorState state = portable;
      if (rank == 1) change(state);
      EXPECT_THROW(aggregator.load_state(state), StateError);
      EXPECT_EQ(checksum(aggregator.state()), before);
      average(aggregator, rank);
    });
  };
  is_refused([](AggregatorState& state) { ++state.fingerprint; });
  is_refused([](AggregatorState& state) { ++state.step; });
  is_refused([](AggregatorState& state) { state.layers.pop_back(); });
  is_refused([](AggregatorState& state) { state.layers[0].residual.pop_back(); });
  is_refused([](AggregatorState& state) { state.plan.layers[0] = "another"; });
  is_refused([](AggregatorState& state) { state.plan.levels.clear(); });
  is_refused([](AggregatorState& state) { state.plan.estimates.resize(1); });
  is_refused([](AggregatorState& state) { state = AggregatorState{.size = 0}; });
}

TEST(PortableState, WhatOneRankAloneWasToldIsSeen) {
  const Options options{.method = parse_level("quantize:2")};
  run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    Aggregator aggregator(kModel, options, std::move(lanes));
    average(aggregator, rank);
    if (rank == 1) aggregator.set_grad_scale(8);
    EXPECT_THROW(aggregator.portable_state(), MismatchError);
    if (rank == 0) aggregator.set_grad_scale(8);
    EXPECT_EQ(aggregator.portable_state().grad_scale, 8);
    average(aggregator, rank);
  });
}

/// Rank r has part r % parts of copy r / parts: shards of replicas, or owners of nodes.
void run_mesh(std::size_t parts, std::size_t copies,
              const std::function<void(std::size_t, Groups)>& body) {
  std::vector<Groups> groups(parts * copies);
  for (std::size_t part = 0; part < parts; ++part) {
    auto joined = thread_communicators(static_cast<int>(copies));
    for (std::size_t copy = 0; copy < copies; ++copy) {
      groups[copy * parts + part].lanes.push_back(std::move(joined[copy]));
    }
  }
  run_ranks(static_cast<int>(groups.size()), [&](std::unique_ptr<Communicator> agreement) {
    const auto rank = static_cast<std::size_t>(agreement->rank());
    groups[rank].agreement = std::move(agreement);
    body(rank, std::move(groups[rank]));
  });
}

std::vector<LayerSpec> shard(std::size_t part) {
  const std::string of = " of shard " + std::to_string(part);
  std::vector<LayerSpec> layers = {{.name = "wide" + of, .shape = {64, 96}}};
  if (part == 1) layers.push_back({.name = "long" + of, .shape = {9001}});
  return layers;
}

TEST(PortableState, HasAllShardsForAnyNumberOfReplicas) {
  Options options{.method = parse_level("quantize:2")};
  options.policy = LGrecoPolicy{.every = 6, .start = 6, .window = 3};
  std::vector<AggregatorState> own(4), portable(4);
  run_mesh(2, 2, [&](std::size_t rank, Groups groups) {
    Aggregator aggregator(shard(rank % 2), options, std::move(groups));
    for (int step = 0; step < 7; ++step) average(aggregator, 100 * step + static_cast<int>(rank));
    own[rank] = aggregator.state();
    portable[rank] = aggregator.portable_state();
  });
  for (const AggregatorState& state : portable) {
    EXPECT_EQ(serialize(state), serialize(portable[0]));
    EXPECT_EQ(state.layers.size(), 3u);
  }
  for (std::size_t part = 0; part < 2; ++part) {
    const AggregatorState mean = resize(std::vector{own[part], own[part + 2]}, 0, 1);
    for (std::size_t i = 0; i < mean.layers.size(); ++i) {
      const auto at = std::ranges::find(portable[0].plan.layers, mean.plan.layers[i]) -
                      portable[0].plan.layers.begin();
      const auto layer = static_cast<std::size_t>(at);
      EXPECT_EQ(portable[0].layers.at(layer).residual, mean.layers[i].residual);
      EXPECT_EQ(portable[0].plan.levels.at(layer), mean.plan.levels[i]);
    }
  }
  for (const std::size_t replicas : {1u, 2u, 3u}) {
    run_mesh(2, replicas, [&](std::size_t rank, Groups groups) {
      Aggregator aggregator(shard(rank % 2), options, std::move(groups));
      aggregator.load_state(portable[0]);
      EXPECT_EQ(aggregator.plan().levels, own[rank % 2].plan.levels);
      for (int step = 7; step < 13; ++step) {
        average(aggregator, 100 * step + static_cast<int>(rank));
      }
      EXPECT_EQ(aggregator.stats().plan_failures, 0u) << aggregator.stats().plan_failure;
    });
  }
  run_mesh(1, 2, [&](std::size_t, Groups groups) {
    Aggregator aggregator(shard(0), options, std::move(groups));
    EXPECT_THROW(aggregator.load_state(portable[0]), StateError);
  });
}

TEST(PortableState, OfNodesIsThatOfAsManyRanks) {
  for (const char* method : kMethods) {
    Options options{.method = parse_level(method)};
    const Saved flat = saved_by(2, 0, options);
    AggregatorState of_nodes;
    run_mesh(2, 2, [&](std::size_t rank, Groups groups) {
      Options with_model = options;
      with_model.model = kModel;
      std::vector<LayerSpec> owned;
      for (std::size_t i = rank % 2; i < kModel.size(); i += 2) owned.push_back(kModel[i]);
      Aggregator aggregator(owned, with_model, std::move(groups));
      for (int step = 0; step < 3; ++step) average(aggregator, 100 * step + static_cast<int>(rank));
      const AggregatorState portable = aggregator.portable_state();
      aggregator.load_state(portable);
      if (rank == 3) of_nodes = portable;
    });
    EXPECT_EQ(of_nodes.plan.layers, names(kModel));
    EXPECT_EQ(of_nodes.fingerprint, flat.portable[0].fingerprint);
    run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
      Aggregator aggregator(kModel, options, std::move(lanes));
      aggregator.load_state(of_nodes);
      EXPECT_EQ(aggregator.state().layers[0].residual, of_nodes.layers[0].residual);
      EXPECT_EQ(aggregator.state().layers[2].residual, of_nodes.layers[2].residual);
    });
  }
}

}  // namespace
}  // namespace lgreco
