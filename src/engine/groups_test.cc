// Two replicas of two shards: replicas of a shard average, and all four ranks agree.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <future>
#include <limits>
#include <mutex>
#include <random>
#include <set>

#include "lgreco/aggregator.h"
#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

constexpr std::size_t kShards = 2, kReplicas = 2, kRanks = kShards * kReplicas;

using Values = std::vector<std::vector<float>>;  // by layer

/// One more layer on shard 1, so that nothing works by chance.
std::vector<LayerSpec> layers_of(std::size_t shard) {
  const std::string suffix = " of shard " + std::to_string(shard);
  std::vector<LayerSpec> layers = {{.name = "wide" + suffix, .shape = {64, 96}},
                                   {.name = "long" + suffix, .shape = {9000}}};
  if (shard == 1) layers.push_back({.name = "more" + suffix, .shape = {80, 64}});
  return layers;
}

/// Those of shard 0 are much alike: they need few bits, and some of the budget is left.
Values gradients(std::size_t rank, std::uint64_t step) {
  std::mt19937 generator(static_cast<unsigned>(100 * step + rank));
  std::normal_distribution<float> normal;
  Values values;
  for (const LayerSpec& layer : layers_of(rank % kShards)) {
    for (float& value : values.emplace_back(layer.count())) {
      value = normal(generator) * (rank % kShards == 0 ? 0.001f : 1.0f);
    }
  }
  return values;
}

/// Rank r has shard r % 2 of replica r / 2.
void run_mesh(std::size_t lanes, const std::function<void(std::size_t, Groups)>& body) {
  std::vector<Groups> groups(kRanks);
  for (std::size_t shard = 0; shard < kShards; ++shard) {
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      auto joined = thread_communicators(kReplicas);
      for (std::size_t replica = 0; replica < kReplicas; ++replica) {
        groups[replica * kShards + shard].lanes.push_back(std::move(joined[replica]));
      }
    }
  }
  std::mutex mutex;
  run_ranks(kRanks, [&](std::unique_ptr<Communicator> agreement) {
    const auto rank = static_cast<std::size_t>(agreement->rank());
    groups[rank].agreement = std::move(agreement);
    body(rank, std::move(groups[rank]));
  });
}

void average(Aggregator& aggregator, Values& values) {
  Bucket bucket;
  for (std::size_t i = 0; i < values.size(); ++i) {
    bucket.gradients.push_back({.layer = i, .data = values[i].data()});
  }
  aggregator.exchange(bucket);
}

template <typename T>
using OfRanks = std::array<T, kRanks>;

TEST(Groups, AverageAmongTheReplicasAlone) {
  run_mesh(2, [](std::size_t rank, Groups groups) {
    Aggregator aggregator(layers_of(rank % kShards), {.method = Level{}}, std::move(groups));
    EXPECT_EQ(aggregator.size(), 2);
    Values values = gradients(rank, 0);
    const Values first = gradients(rank % kShards, 0), second = gradients(rank % kShards + 2, 0);
    average(aggregator, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      for (std::size_t j = 0; j < values[i].size(); ++j) {
        ASSERT_NEAR(values[i][j], (first[i][j] + second[i][j]) / 2, 1e-6);
      }
    }
  });
}

// Wherever it is, all four lose the same step, see that they do, and go on alike.
TEST(Groups, AnOverflowAnywhereLosesTheStepEverywhere) {
  for (const char* method : {"quantize:4", "topk:0.1", "low_rank:2:min_ratio=1"}) {
    for (std::size_t victim = 0; victim < kRanks; ++victim) {
      OfRanks<AggregatorState> ends;
      OfRanks<Values> averages;
      run_mesh(1 + victim % 2, [&](std::size_t rank, Groups groups) {
        AggregatorOptions options{.method = parse_level(method)};
        options.policy = LGrecoPolicy{.every = 3, .start = 3, .window = 2};
        Aggregator aggregator(layers_of(rank % kShards), options, std::move(groups));
        for (std::uint64_t step = 0; step < 8; ++step) {
          Values values = gradients(rank, step);
          if (step == 4 && rank == victim) values[1][7] = std::numeric_limits<float>::infinity();
          const AggregatorState before = aggregator.state();
          average(aggregator, values);
          const AggregatorState after = aggregator.state();
          bool finite = true;
          for (const auto& layer : values) {
            for (const float value : layer) finite &= std::isfinite(value);
          }
          EXPECT_EQ(finite, step != 4) << "rank " << rank << " of victim " << victim;
          EXPECT_EQ(after.step, before.step + (step == 4 ? 0 : 1));
          if (step == 4) {
            for (std::size_t i = 0; i < after.layers.size(); ++i) {
              EXPECT_EQ(after.layers[i].residual, before.layers[i].residual);
              EXPECT_EQ(after.layers[i].factor, before.layers[i].factor);
              EXPECT_EQ(after.layers[i].window, before.layers[i].window);
            }
          }
          averages[rank] = values;
        }
        ends[rank] = aggregator.state();
      });
      for (std::size_t rank = 0; rank < kRanks; ++rank) {
        EXPECT_EQ(ends[rank].step, 7u);
        EXPECT_EQ(ends[rank].stats.overflow_steps, 1u);
        EXPECT_EQ(ends[rank].stats.plans, 2u) << ends[rank].stats.plan_failure;
        EXPECT_EQ(ends[rank].plan.version, ends[0].plan.version);
        EXPECT_EQ(ends[rank].plan.step, ends[0].plan.step);
        EXPECT_EQ(averages[rank], averages[rank % kShards]) << "replicas differ";
        EXPECT_EQ(ends[rank].plan.levels, ends[rank % kShards].plan.levels);
      }
    }
  }
}

TEST(Groups, OnePlanSpendsOneBudgetOverAllShards) {
  OfRanks<Plan> plans;
  OfRanks<double> bytes{};
  run_mesh(1, [&](std::size_t rank, Groups groups) {
    AggregatorOptions options{.method = parse_level("quantize:4")};
    options.policy = LGrecoPolicy{.every = 4, .start = 4, .window = 2};
    Aggregator aggregator(layers_of(rank % kShards), options, std::move(groups));
    const auto all = aggregator.plan().bytes;
    for (std::uint64_t step = 0; step < 5; ++step) {
      Values values = gradients(rank, step);
      average(aggregator, values);
      EXPECT_EQ(aggregator.stats().plans, step < 3 ? 0u : 1u);
    }
    plans[rank] = aggregator.plan();
    for (const LayerEstimate& layer : plans[rank].estimates) bytes[rank] += layer.chosen.bytes;
    EXPECT_LT(plans[rank].bytes, all);
  });
  for (std::size_t rank = 0; rank < kRanks; ++rank) {
    const Plan& plan = plans[rank];
    EXPECT_EQ(plan.layers.size(), layers_of(rank % kShards).size());
    EXPECT_EQ(plan.layers[0], layers_of(rank % kShards)[0].name);
    EXPECT_EQ(plan.levels.size(), plan.layers.size());
    EXPECT_EQ(plan.estimates.size(), plan.layers.size());
    EXPECT_EQ(plan.budget, plans[0].budget);
    EXPECT_EQ(plan.error, plans[0].error);
    EXPECT_LE(plan.error, plan.budget);
    EXPECT_EQ(plan.bytes, bytes[0] + bytes[1]);
  }
  // What the small gradients of shard 0 give up is nothing to the budget, and shard 1 may use it.
  for (const Level& level : plans[0].levels) EXPECT_LT(level.parameter, 4) << to_string(level);
  EXPECT_LT(bytes[0],
            plans[0].estimates[0].reference.bytes + plans[0].estimates[1].reference.bytes);
}

TEST(Groups, AccordionDecidesForTheWholeModel) {
  OfRanks<AggregatorState> ends;
  run_mesh(1, [&](std::size_t rank, Groups groups) {
    const AccordionPolicy accordion{.low = parse_level("quantize:8"),
                                    .high = parse_level("quantize:2"),
                                    .every = 2,
                                    .threshold = 0.5};
    Aggregator aggregator(layers_of(rank % kShards), {.method = accordion.low, .policy = accordion},
                          std::move(groups));
    const auto run = [&](std::uint64_t steps) {
      for (std::uint64_t step = 0; step < steps; ++step) {
        Values values = gradients(rank % kShards, 0);
        // Shard 0, small as it is, changes, and the model does not.
        for (auto& layer : values) {
          if (rank % kShards == 0 && aggregator.stats().steps >= 2) {
            for (float& value : layer) value *= 10;
          }
        }
        average(aggregator, values);
      }
    };
    run(4);
    EXPECT_FALSE(aggregator.in_critical_regime());
    EXPECT_EQ(to_string(aggregator.plan().levels[0]).substr(0, 10),
              rank % kShards == 0 ? "quantize:8" : "quantize:2");
    const AggregatorState saved = aggregator.state();
    run(1);
    aggregator.load_state(saved);
    run(2);
    ends[rank] = aggregator.state();
  });
  for (const AggregatorState& end : ends) {
    EXPECT_EQ(end.step, 6u);
    EXPECT_EQ(end.stats.failed_steps, 0u);
  }
}

/// All four say this.
void expect_one_error(const OfRanks<std::string>& errors, const std::string& expected) {
  for (const std::string& error : errors) EXPECT_EQ(error, errors[0]);
  EXPECT_NE(errors[0].find(expected), std::string::npos) << errors[0];
}

template <typename Error, typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Groups, AFailureOnOneRankIsTheSameErrorOnAll) {
  OfRanks<std::string> drifts, resets, states, problems;
  run_mesh(2, [&](std::size_t rank, Groups groups) {
    std::vector<std::vector<float>> parameters(
        3, std::vector<float>(10, static_cast<float>(rank % 2)));
    AggregatorOptions options{.method = parse_level("quantize:4"), .drift_check_every = 1};
    options.parameter = [&](std::size_t layer) {
      return std::as_bytes(std::span(parameters[layer]));
    };
    Aggregator aggregator(layers_of(rank % kShards), options, std::move(groups));
    Values values = gradients(rank, 0);
    average(aggregator, values);  // other shards have other parameters
    const AggregatorState saved = aggregator.state();
    if (rank == 3) parameters[2][1] = 7;
    drifts[rank] = error_of<MismatchError>([&] { average(aggregator, values); });
    parameters[2][1] = static_cast<float>(rank % 2);
    average(aggregator, values);
    if (rank == 1) aggregator.reset();
    resets[rank] = error_of<MismatchError>([&] { average(aggregator, values); });
    if (rank != 1) aggregator.reset();
    average(aggregator, values);
    const auto load = [&] {
      rank == 2 ? aggregator.refuse_state("nothing to load") : aggregator.load_state(saved);
    };
    states[rank] = error_of<StateError>(load);
    EXPECT_EQ(aggregator.stats().steps, 3u);
    const std::vector<bool> given(layers_of(rank % kShards).size(), rank == 0);
    problems[rank] = error_of<ConfigError>(
        [&] { (void)aggregator.agree_on_layers(given, rank == 3 ? "no such layer" : ""); });
    EXPECT_EQ(aggregator.agree_on_layers(given, ""),
              std::vector<bool>(given.size(), rank % kShards == 0));
    aggregator.load_state(saved);
    EXPECT_EQ(aggregator.stats().steps, 1u);
    average(aggregator, values);
  });
  expect_one_error(drifts, "'more of shard 1' on rank 3 are not those of rank 1");
  expect_one_error(resets, "how often they were reset: rank 0 has '0', rank 1 has '1'");
  expect_one_error(states, "nothing to load");
  expect_one_error(problems, "no such layer");
}

TEST(Groups, WhatDoesNotFitTogetherIsRefusedEverywhere) {
  const auto errors_of = [](auto change) {
    OfRanks<std::string> errors;
    run_mesh(1, [&](std::size_t rank, Groups groups) {
      std::vector<LayerSpec> layers = layers_of(rank % kShards);
      AggregatorOptions options{.method = parse_level("quantize:4")};
      change(rank, layers, options);
      errors[rank] =
          error_of<Error>([&] { const Aggregator aggregator(layers, options, std::move(groups)); });
    });
    return errors;
  };
  using Layers = std::vector<LayerSpec>;
  expect_one_error(errors_of([](std::size_t rank, Layers&, AggregatorOptions& options) {
                     if (rank == 1) options.seed = 5;
                   }),
                   "seed: rank 0 has '0', rank 1 has '5'");
  expect_one_error(errors_of([](std::size_t rank, Layers& layers, AggregatorOptions&) {
                     if (rank == 3) layers[1].shape = {9001};
                   }),
                   "layer 1: rank 1 has 'long of shard 1', rank 3");
  expect_one_error(errors_of([](std::size_t rank, Layers& layers, AggregatorOptions&) {
                     if (rank % kShards == 1) layers[1] = {.name = "wide of shard 0", .shape = {3}};
                   }),
                   "two layers are named 'wide of shard 0'");
}

// As norms in tensor-parallel training: each shard averages its own copy.
TEST(Groups, ALayerThatAllShardsHoldCountsOnce) {
  run_mesh(1, [](std::size_t rank, Groups groups) {
    std::vector<LayerSpec> layers = layers_of(rank % kShards);
    layers.push_back({.name = "shared", .shape = {64, 64}});
    Aggregator aggregator(layers, {.method = Level{}}, std::move(groups));
    double elements = 64 * 64;
    for (std::size_t shard = 0; shard < kShards; ++shard) {
      for (const LayerSpec& layer : layers_of(shard))
        elements += static_cast<double>(layer.count());
    }
    EXPECT_EQ(aggregator.plan().bytes, 4 * elements);
  });
}

// Whoever does not know which bucket is the last ends the step with an empty one.
TEST(Groups, AnEmptyBucketEndsAStepAndSendsNothing) {
  run_mesh(2, [](std::size_t rank, Groups groups) {
    Aggregator aggregator(layers_of(rank % kShards), {.method = parse_level("quantize:4")},
                          std::move(groups));
    Values values = gradients(rank, 0), same = values;
    average(aggregator, values);
    const Stats whole = aggregator.stats();
    aggregator.reset();
    aggregator.submit({.gradients = {{.layer = 1, .data = same[1].data()}}, .last = false},
                      [](const std::exception_ptr&) {});
    aggregator.exchange({});
    const Stats stats = aggregator.stats();
    EXPECT_EQ(stats.steps, 2u);
    EXPECT_LT(stats.bytes_sent - whole.bytes_sent, whole.bytes_sent);
    aggregator.exchange({});
    // A commit round alone, to three peers: frame and verdict.
    EXPECT_EQ(aggregator.stats().bytes_sent - stats.bytes_sent, 3u * (48 + 64));
  });
}

TEST(Groups, AProblemOfOneRankLosesTheStepEverywhere) {
  OfRanks<std::string> errors;
  run_mesh(1, [&](std::size_t rank, Groups groups) {
    Aggregator aggregator(layers_of(rank % kShards), {.method = parse_level("quantize:4")},
                          std::move(groups));
    Values values = gradients(rank, 0);
    aggregator.submit({.gradients = {{.layer = 1, .data = values[1].data()}}, .last = false},
                      [](const std::exception_ptr&) {});
    errors[rank] = error_of<ConfigError>(
        [&] { aggregator.exchange({.problem = rank == 2 ? "a layer is missing" : ""}); });
    EXPECT_EQ(aggregator.stats().steps, 0u);
    average(aggregator, values);
    EXPECT_EQ(aggregator.stats().steps, 1u);
  });
  expect_one_error(errors, "a layer is missing");
}

/// Of both shards, as every rank has them where shards are parts of sums and not of the model.
std::vector<LayerSpec> whole_model() {
  std::vector<LayerSpec> model = layers_of(0);
  for (const LayerSpec& layer : layers_of(1)) model.push_back(layer);
  return model;
}

TEST(Groups, ParametersOfLayersThatOthersAverageAreComparedToo) {
  OfRanks<std::string> drifts, models;
  OfRanks<std::uint64_t> fingerprints{};
  run_mesh(2, [&](std::size_t rank, Groups groups) {
    std::vector<float> parameters(whole_model().size());
    bool has_gradient = true;
    AggregatorOptions options{.method = parse_level("quantize:4"), .drift_check_every = 1};
    options.model = whole_model();
    options.parameter = [&](std::size_t layer) {
      return std::as_bytes(std::span(&parameters[layer], 1));
    };
    options.has_gradient = [&] { return has_gradient; };
    Aggregator aggregator(layers_of(rank % kShards), options, std::move(groups));
    Values values = gradients(rank, 0);
    average(aggregator, values);
    fingerprints[rank] = aggregator.state().fingerprint;
    if (rank == 2) parameters[3] = 7;  // of shard 1, and rank 2 averages shard 0
    drifts[rank] = error_of<MismatchError>([&] { average(aggregator, values); });
    has_gradient = rank != 2;  // so its parameters stand still
    average(aggregator, values);
    EXPECT_EQ(aggregator.stats().steps, 2u);
  });
  expect_one_error(drifts, "'long of shard 1' on rank 2 are not those of rank 0");
  for (const std::uint64_t fingerprint : fingerprints) EXPECT_EQ(fingerprint, fingerprints[0]);
  run_mesh(1, [&](std::size_t rank, Groups groups) {
    AggregatorOptions options{.method = parse_level("quantize:4")};
    options.model = whole_model();
    if (rank == 3) options.model[1].shape = {9001};
    models[rank] = error_of<MismatchError>([&] {
      const Aggregator aggregator(layers_of(rank % kShards), options, std::move(groups));
    });
  });
  expect_one_error(models, "layer 1: rank 0 has 'long of shard 0 (9000) fp32', rank 3 has");
}

TEST(Groups, ARankMayAverageNothing) {
  OfRanks<Plan> plans;
  run_mesh(2, [&](std::size_t rank, Groups groups) {
    const bool has_layers = rank % kShards == 0;
    AggregatorOptions options{.method = parse_level("quantize:4")};
    options.policy = LGrecoPolicy{.every = 2, .start = 2, .window = 1};
    Aggregator aggregator(has_layers ? layers_of(0) : std::vector<LayerSpec>(), options,
                          std::move(groups));
    for (std::uint64_t step = 0; step < 3; ++step) {
      Values values = has_layers ? gradients(rank, step) : Values();
      average(aggregator, values);
    }
    aggregator.load_state(aggregator.state());
    plans[rank] = aggregator.plan();
    EXPECT_EQ(aggregator.stats().steps, 3u);
    EXPECT_EQ(aggregator.stats().plans, 1u);
    EXPECT_EQ(plans[rank].layers.size(), has_layers ? 2u : 0u);
  });
  for (const Plan& plan : plans) EXPECT_EQ(plan.bytes, plans[0].bytes);
}

/// A step of two buckets that must be delivered. How each ended, and in which order what came.
std::vector<std::string> deliver(Aggregator& aggregator, std::size_t rank, bool fails) {
  Values values = gradients(rank, 0);
  std::vector<std::string> story;
  std::array<std::promise<void>, 2> ended;
  for (std::size_t i = 0; i < 2; ++i) {
    Bucket bucket{.gradients = {{.layer = i, .data = values[i].data()}}, .last = i == 1};
    bucket.deliver = [&, i](Deadline) {
      EXPECT_NE(values[i], gradients(rank, 0)[i]) << "no averages";
      story.push_back("deliver " + std::to_string(i));
      if (fails && i == 1) throw PeerError("nobody takes it");
    };
    aggregator.submit(bucket, [&, i](const std::exception_ptr& failure) {
      story.push_back(error_of<Error>([&] {
        if (failure) std::rethrow_exception(failure);
      }));
      ended[i].set_value();
    });
  }
  for (auto& bucket : ended) bucket.get_future().wait();
  return story;
}

TEST(Groups, AveragesAreDeliveredBeforeAnyBucketIsDone) {
  run_mesh(2, [](std::size_t rank, Groups groups) {
    AggregatorOptions options{.method = parse_level("quantize:4"),
                              .timeout = std::chrono::seconds(5)};
    std::atomic<int> given_up = 0;
    options.give_up = [&] { ++given_up; };
    Aggregator aggregator(layers_of(rank % kShards), options, std::move(groups));
    using Story = std::vector<std::string>;
    EXPECT_EQ(deliver(aggregator, rank, false),
              (Story{"deliver 0", "deliver 1", "no error", "no error"}));
    EXPECT_EQ(given_up, 0);
    const Story story = deliver(aggregator, rank, rank == 1);
    if (rank != 1) return;  // the others learn it with the next step
    EXPECT_EQ(story[3], "[rank 1, step 1, bucket 1, delivering averages] nobody takes it");
    EXPECT_EQ(story[2], story[3]);
    EXPECT_GE(given_up, 1);
    Values values = gradients(rank, 0);
    EXPECT_THROW(average(aggregator, values), PeerError) << "the run goes on";
  });
}

}  // namespace
}  // namespace lgreco
