#include "lgreco/aggregator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <mutex>
#include <random>
#include <set>

#include "lgreco/status.h"
#include "src/kernels/cast.h"
#include "tests/ranks_as_threads.h"
#include "tests/trainer.h"

namespace lgreco {
namespace {

struct Case {
  std::string method;
  int ranks;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.method << " on " << c.ranks; }

class AggregatorTest : public testing::TestWithParam<Case> {};

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const char* method :
       {"dense", "cast:bf16", "cast:fp16", "quantize:4", "quantize:2:rounding=stochastic",
        "topk:0.01", "topk:0.1:values=fp32", "low_rank:2:min_ratio=1",
        "low_rank:2:min_ratio=1:factors=4", "quantize:2+5", "topk:0.1+0.02"}) {
    for (int ranks : {1, 2, 3, 4}) cases.push_back({method, ranks});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Methods, AggregatorTest, testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.method + "_on_" + std::to_string(info.param.ranks);
  for (char& c : name) c = std::isalnum(c) ? c : '_';
  return name;
});

// sum over steps of what was applied + mean residual = sum over steps of the true means.
TEST_P(AggregatorTest, ErrorFeedbackTelescopes) {
  constexpr std::uint64_t kSteps = 50;
  const int ranks = GetParam().ranks;
  std::vector<Values> applied(static_cast<std::size_t>(ranks));
  std::vector<AggregatorState> states(static_cast<std::size_t>(ranks));
  run_ranks_on_lanes(ranks, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), options(GetParam().method));
    Values& sum = applied[static_cast<std::size_t>(trainer.rank)];
    for (const LayerSpec& layer : kModel) sum.emplace_back(layer.count(), 0.0f);
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values, step == 0 ? kModel.size() : 2);  // DDP regroups after step 0
      for (std::size_t i = 0; i < values.size(); ++i) {
        for (std::size_t j = 0; j < values[i].size(); ++j) sum[i][j] += values[i][j];
      }
    }
    states[static_cast<std::size_t>(trainer.rank)] = trainer.aggregator.state();
  });
  std::vector<Values> all;
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    for (int rank = 0; rank < ranks; ++rank) all.push_back(gradients(rank, step));
  }
  for (std::size_t i = 0; i < kModel.size(); ++i) {
    for (std::size_t j = 0; j < kModel[i].count(); ++j) {
      double truth = 0, kept = 0;
      for (const Values& values : all) truth += double{values[i][j]} / ranks;
      for (const AggregatorState& state : states) {
        const std::vector<float>& residual = state.layers[i].residual;
        if (!residual.empty()) kept += double{residual[j]} / ranks;
      }
      ASSERT_NEAR(applied[0][i][j] + kept, truth, 2e-4) << kModel[i].name << "[" << j << "]";
    }
  }
}

TEST_P(AggregatorTest, AllRanksHoldTheSameBitsAndRunsRepeat) {
  const int ranks = GetParam().ranks;
  const auto run = [&] {
    std::vector<std::vector<Values>> history(static_cast<std::size_t>(ranks));
    run_ranks_on_lanes(ranks, 2, [&](Communicators lanes) {
      Trainer trainer(std::move(lanes), options(GetParam().method));
      for (std::uint64_t step = 0; step < 10; ++step) {
        Values values = gradients(trainer.rank, step);
        trainer.average(values, 2);
        history[static_cast<std::size_t>(trainer.rank)].push_back(values);
      }
    });
    return history;
  };
  const auto first = run();
  for (const auto& rank : first) EXPECT_EQ(rank, first[0]);
  EXPECT_EQ(run(), first);
}

// A step with a non-finite gradient leaves no trace: the run goes on as one that skipped it.
TEST_P(AggregatorTest, NonFiniteOnOneRankIsSeenByAllAndForgotten) {
  constexpr std::uint64_t kSteps = 4;
  const auto planned = [] {
    AggregatorOptions settings = options(GetParam().method);
    settings.policy = LGrecoPolicy{.every = 3, .start = 3, .window = 3};
    return settings;
  };
  run_ranks_on_lanes(GetParam().ranks, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), planned());
    std::vector<Values> undisturbed;
    const AggregatorState start = trainer.aggregator.state();
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      undisturbed.push_back(gradients(trainer.rank, step));
      trainer.average(undisturbed.back(), 2);
    }
    const AggregatorState end = trainer.aggregator.state();
    const auto check = [&](float bad, int victim, std::size_t layer) {
      trainer.aggregator.load_state(start);
      for (std::uint64_t step = 0; step < kSteps; ++step) {
        if (step == layer % kSteps) {
          Values poisoned = gradients(trainer.rank, 100 + step);
          if (trainer.rank == victim) poisoned[layer].back() = bad;
          trainer.average(poisoned, 2);
          for (std::size_t i = 0; i < kModel.size(); ++i) {
            for (float value : poisoned[i]) {
              ASSERT_EQ(std::isfinite(value), i != layer) << kModel[i].name;
            }
          }
        }
        Values values = gradients(trainer.rank, step);
        trainer.average(values, 2);
        ASSERT_EQ(values, undisturbed[step]) << kModel[layer].name << ", step " << step;
      }
      const AggregatorState after = trainer.aggregator.state();
      EXPECT_EQ(after.stats.overflow_steps, 1u);
      EXPECT_EQ(after.step, end.step);
      EXPECT_EQ(after.plan.levels, end.plan.levels);
      EXPECT_EQ(after.plan.error, end.plan.error);
      for (std::size_t i = 0; i < kModel.size(); ++i) {
        EXPECT_EQ(after.layers[i].residual, end.layers[i].residual);
        EXPECT_EQ(after.layers[i].factor, end.layers[i].factor);
        EXPECT_EQ(after.layers[i].window, end.layers[i].window);
      }
    };
    for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
      for (int victim = 0; victim < trainer.size; ++victim) {
        for (std::size_t layer = 0; layer < kModel.size(); ++layer) check(bad, victim, layer);
      }
    }
  });
}

TEST_P(AggregatorTest, ResumedRunIsTheSameRun) {
  run_ranks_on_lanes(GetParam().ranks, 2, [&](Communicators lanes) {
    AggregatorOptions planned = options(GetParam().method);
    planned.policy = LGrecoPolicy{.every = 4, .start = 4, .window = 2};
    Trainer trainer(std::move(lanes), planned);
    std::vector<AggregatorState> states;
    std::vector<Values> results;
    for (std::uint64_t step = 0; step < 12; ++step) {
      states.push_back(trainer.aggregator.state());
      Values values = gradients(trainer.rank, step);
      trainer.average(values, 2);
      results.push_back(std::move(values));
    }
    const Stats end = trainer.aggregator.stats();
    for (std::uint64_t resumed = 0; resumed < 12; ++resumed) {
      trainer.aggregator.load_state(states[resumed]);
      for (std::uint64_t step = resumed; step < 12; ++step) {
        Values values = gradients(trainer.rank, step);
        trainer.average(values, 2);
        ASSERT_EQ(values, results[step]) << "step " << step << " after resuming at " << resumed;
      }
      EXPECT_EQ(trainer.aggregator.stats().bytes_sent, end.bytes_sent);
      EXPECT_EQ(trainer.aggregator.stats().plans, end.plans);
    }
  });
}

// Decisions of Accordion, plans in the making and learning-rate decays included.
TEST(Aggregator, ResumedRunIsTheSameRunUnderAccordion) {
  AggregatorOptions settings = options("low_rank:2:min_ratio=1");
  settings.policy = AccordionPolicy{.low = parse_level("low_rank:2:min_ratio=1"),
                                    .high = parse_level("low_rank:1:min_ratio=1"),
                                    .every = 6,
                                    .then = LGrecoPolicy{.every = 40, .start = 24, .window = 3}};
  constexpr std::uint64_t kSteps = 50, kDecay = 33;
  const auto step_of = [](Trainer& trainer, std::uint64_t step) {
    if (step == kDecay) trainer.aggregator.on_learning_rate_change(0.1, 0.01);
    Values values = gradients(trainer.rank, step);
    const float scale = step % 12 < 6 ? 1.0f : 1.2f;  // less than the threshold
    for (auto& layer : values) {
      for (float& value : layer) value *= scale;
    }
    trainer.average(values, 2);
    return values;
  };
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), settings);
    std::vector<AggregatorState> states;
    std::vector<Values> results;
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      states.push_back(trainer.aggregator.state());
      results.push_back(step_of(trainer, step));
    }
    const AggregatorState end = trainer.aggregator.state();
    EXPECT_GE(end.plan.version, 3u);
    EXPECT_EQ(end.stats.plans, 1u);
    for (std::uint64_t resumed : {0, 5, 6, 7, 12, 20, 22, 23, 24, 30, 33, 34, 41}) {
      trainer.aggregator.load_state(states[resumed]);
      for (std::uint64_t step = resumed; step < kSteps; ++step) {
        ASSERT_EQ(step_of(trainer, step), results[step])
            << "step " << step << " after resuming at " << resumed;
      }
      EXPECT_EQ(trainer.aggregator.plan().hash(), end.plan.hash());
      EXPECT_EQ(trainer.aggregator.plan().version, end.plan.version);
    }
  });
}

TEST(Aggregator, AccordionDecidesAlikeOnAllRanksWithoutACollective) {
  std::mutex mutex;
  std::vector<std::uint64_t> messages;
  for (const bool adapts : {false, true}) {
    run_ranks_on_lanes(3, 2, [&](Communicators lanes) {
      AggregatorOptions settings = options("quantize:8");
      if (adapts) {
        settings.policy = AccordionPolicy{
            .low = parse_level("quantize:8"), .high = parse_level("quantize:4"), .every = 4};
      }
      Trainer trainer(std::move(lanes), settings);
      const std::uint64_t before = trainer.aggregator.stats().messages_sent;
      for (std::uint64_t step = 0; step < 12; ++step) {
        Values values = gradients(trainer.rank, step);
        trainer.average(values, 2);
        const bool high = adapts && trainer.aggregator.plan().levels[0].parameter == 4;
        EXPECT_EQ(high, adapts && step >= 7) << step;
        EXPECT_EQ(trainer.aggregator.in_critical_regime(), !high);
      }
      const std::lock_guard lock(mutex);
      messages.push_back(trainer.aggregator.stats().messages_sent - before);
    });
  }
  for (std::uint64_t sent : messages) EXPECT_EQ(sent, messages[0]);
}

// Rank 4, then fewer, then more again: the columns that both have stay as they were.
TEST(Aggregator, ReplanningKeepsWarmColumnsOnAllRanks) {
  AggregatorOptions settings = options("low_rank:4:min_ratio=1");
  settings.policy = AccordionPolicy{.low = parse_level("low_rank:4:min_ratio=1"),
                                    .high = parse_level("low_rank:2:min_ratio=1"),
                                    .every = 2};
  std::vector<AggregatorState> ends(2);
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), settings);
    constexpr std::size_t kWide = 2, kColumns = 700;
    const auto factor = [&] { return trainer.aggregator.state().layers[kWide].factor; };
    for (std::uint64_t step = 0; step < 3; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values);
    }
    AggregatorState state = trainer.aggregator.state();
    ASSERT_EQ(state.layers[kWide].factor.size(), 4 * kColumns);
    // Loading a plan switches without a step in between.
    state.layers[kWide].critical = false;
    state.plan.levels[kWide] = parse_level("low_rank:2:min_ratio=1");
    trainer.aggregator.load_state(state);
    const auto two = factor();
    ASSERT_EQ(two.size(), 2 * kColumns);
    EXPECT_TRUE(std::equal(two.begin(), two.end(), state.layers[kWide].factor.begin()));
    state = trainer.aggregator.state();
    state.layers[kWide].critical = true;
    state.plan.levels[kWide] = parse_level("low_rank:4:min_ratio=1");
    trainer.aggregator.load_state(state);
    const auto four = factor();
    ASSERT_EQ(four.size(), 4 * kColumns);
    EXPECT_TRUE(std::equal(two.begin(), two.end(), four.begin()));
    for (std::uint64_t step = 3; step < 6; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values);
    }
    ends[static_cast<std::size_t>(trainer.rank)] = trainer.aggregator.state();
  });
  for (std::size_t i = 0; i < kModel.size(); ++i) {
    EXPECT_EQ(ends[0].layers[i].factor, ends[1].layers[i].factor) << kModel[i].name;
  }
}

TEST(Aggregator, PlansForTimeByTheNetwork) {
  for (const double bandwidth : {1e5, 1e12}) {
    run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
      AggregatorOptions settings = options("entropy:4");  // takes many times as long as dense
      settings.policy = LGrecoPolicy{.every = 4,
                                     .start = 4,
                                     .window = 2,
                                     .objective = LGrecoPolicy::Objective::time,
                                     .network = Network{.bandwidth = bandwidth, .latency = 1e-6}};
      Trainer trainer(std::move(lanes), settings);
      for (std::uint64_t step = 0; step < 5; ++step) {
        Values values = gradients(trainer.rank, step);
        trainer.average(values);
      }
      const Plan plan = trainer.aggregator.plan();
      EXPECT_EQ(trainer.aggregator.stats().plans, 1u);
      for (std::size_t i : {2, 3}) {
        EXPECT_EQ(plan.levels[i].method == Method::dense, bandwidth == 1e12) << kModel[i].name;
        EXPECT_GT(plan.estimates[i].chosen.seconds, 0);
      }
    });
  }
}

TEST(Aggregator, MeasuresTheNetworkWhenItIsNotGiven) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    AggregatorOptions settings = options("quantize:4");
    settings.policy = LGrecoPolicy{
        .every = 4, .start = 4, .window = 2, .objective = LGrecoPolicy::Objective::time};
    Trainer trainer(std::move(lanes), settings);
    for (std::uint64_t step = 0; step < 5; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values);
    }
    EXPECT_EQ(trainer.aggregator.stats().plans, 1u);
    EXPECT_EQ(trainer.aggregator.stats().plan_failures, 0u);
  });
}

// Frames of 48 bytes, a byte a layer, and a commit message are all there is besides the plan's
// bytes.
TEST(Aggregator, CountedBytesFollowFromThePlan) {
  for (const char* method :
       {"dense", "quantize:4", "topk:0.01", "low_rank:2:min_ratio=1",
        "low_rank:4:min_ratio=1:factors=8", "quantize:2+6", "topk:0.03+0.01"}) {
    run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
      Trainer trainer(std::move(lanes), options(method));
      const double before = static_cast<double>(trainer.aggregator.stats().bytes_sent);
      Values values = gradients(trainer.rank, 0);
      trainer.average(values);
      const Stats stats = trainer.aggregator.stats();
      // Of two ranks each sends the half that the other owns, then the half that it owns.
      const double plan = trainer.aggregator.plan().bytes;
      const double sent = static_cast<double>(stats.bytes_sent) - before;
      EXPECT_GE(sent, 0.9 * plan);
      EXPECT_LE(sent, 1.1 * plan + 4.0 * (48 + 8) + 48 + 512) << method;
      EXPECT_GT(stats.check_s, 0) << method;
    });
  }
}

TEST(Aggregator, AbsentLayersKeepTheirResidual) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), options("quantize:2"));
    Values values = gradients(trainer.rank, 0);
    trainer.average(values);
    const auto before = trainer.aggregator.state().layers[2].residual;
    ASSERT_FALSE(before.empty());
    trainer.aggregator.exchange(
        {.gradients = {{.layer = 2, .data = values[2].data(), .present = false}}, .last = true});
    for (float value : values[2]) ASSERT_EQ(value, 0.0f);
    EXPECT_EQ(trainer.aggregator.state().layers[2].residual, before);

    // Absent on one rank only: it contributes what it still owes.
    values[2].assign(values[2].size(), 1.0f);
    trainer.aggregator.exchange(
        {.gradients = {{.layer = 2, .data = values[2].data(), .present = trainer.rank == 0}},
         .last = true});
    EXPECT_NE(trainer.aggregator.state().layers[2].residual, before);
  });
}

TEST(Aggregator, Bf16GradientsLoseNothing) {
  constexpr std::size_t kCount = 4096;
  constexpr int kSteps = 20, kRanks = 2;
  const std::vector<LayerSpec> model = {{.name = "w", .shape = {64, 64}, .dtype = DType::bf16}};
  for (const char* method :
       {"dense", "quantize:4", "low_rank:4", "low_rank:4:factors=3", "topk:0.05"}) {
    std::vector<double> applied(kCount, 0.0), truth(kCount, 0.0), kept(kCount, 0.0);
    std::mutex mutex;
    run_ranks_on_lanes(kRanks, 1, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      std::mt19937 generator(static_cast<unsigned>(rank));
      std::normal_distribution<float> normal;
      Aggregator aggregator(model, options(method), std::move(lanes));
      for (int step = 0; step < kSteps; ++step) {
        std::vector<std::uint16_t> values(kCount);
        for (std::uint16_t& value : values) value = kernels::bf16_below(normal(generator));
        {
          const std::lock_guard lock(mutex);
          for (std::size_t j = 0; j < kCount; ++j) {
            truth[j] += kernels::bf16_value(values[j]) / kRanks;
          }
        }
        aggregator.exchange({.gradients = {{.layer = 0, .data = values.data()}}, .last = true});
        if (rank != 0) continue;
        for (std::size_t j = 0; j < kCount; ++j) applied[j] += kernels::bf16_value(values[j]);
      }
      const auto residual = aggregator.state().layers[0].residual;
      const std::lock_guard lock(mutex);
      for (std::size_t j = 0; j < kCount; ++j) kept[j] += residual[j] / kRanks;
    });
    for (std::size_t j = 0; j < kCount; ++j) {
      ASSERT_NEAR(applied[j] + kept[j], truth[j], 1e-4) << method << " at " << j;
    }
  }
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += std::pow(double{a[i]} - double{b[i]}, 2);
  return std::sqrt(squares);
}

// What rounding a factor loses grows with what a rank has: that must not grow with the steps, not
// even what ranks have of each other's.
TEST(Aggregator, RanksDoNotDriftApartWhereFactorsAreRounded) {
  const std::vector<LayerSpec> model = {{.name = "w", .shape = {64, 96}}};
  for (const char* method :
       {"low_rank:4:min_ratio=1:factors=2", "low_rank:4:min_ratio=1:factors=8"}) {
    constexpr int kRanks = 3;
    std::vector<std::vector<float>> early(kRanks), late(kRanks);
    run_ranks_on_lanes(kRanks, 1, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      std::mt19937 generator(static_cast<unsigned>(rank));
      std::normal_distribution<float> normal;
      Aggregator aggregator(model, options(method), std::move(lanes));
      for (int step = 1; step <= 600; ++step) {
        std::vector<float> values(model[0].count());
        for (float& value : values) value = normal(generator);
        aggregator.exchange({.gradients = {{.layer = 0, .data = values.data()}}, .last = true});
        if (step == 150)
          early[static_cast<std::size_t>(rank)] = aggregator.state().layers[0].residual;
        if (step == 600)
          late[static_cast<std::size_t>(rank)] = aggregator.state().layers[0].residual;
      }
    });
    const std::vector<float> zero(model[0].count(), 0.0f);
    EXPECT_LE(distance(late[0], late[1]), 1.1 * distance(early[0], early[1])) << method;
    EXPECT_LE(distance(late[2], zero), 1.1 * distance(early[2], zero)) << method;
  }
}

TEST(Aggregator, StartsDense) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    AggregatorOptions late = options("topk:0.01");
    late.start = 2;
    Trainer trainer(std::move(lanes), late);
    for (std::uint64_t step = 0; step < 3; ++step) {
      Values values = gradients(trainer.rank, step), other = gradients(1 - trainer.rank, step);
      const float mean = 0.5f * values[2][5] + 0.5f * other[2][5];
      trainer.average(values);
      EXPECT_EQ(step < 2, std::abs(values[2][5] - mean) < 1e-6) << step;
    }
  });
}

TEST(Aggregator, NeitherLanesNorThreadsNorBucketsChangeABit) {
  struct Setting {
    int lanes, threads;
    std::size_t bucket_length;
  };
  for (const char* method : {"quantize:4", "topk:0.01", "low_rank:2:min_ratio=1",
                             "low_rank:3:min_ratio=1:factors=5", "cast:bf16"}) {
    std::vector<Values> results;
    for (const Setting& setting : {Setting{1, 1, 2}, Setting{1, 4, 6}, Setting{2, 1, 6},
                                   Setting{2, 4, 1}, Setting{2, 1, 4}}) {
      run_ranks_on_lanes(3, setting.lanes, [&](Communicators communicators) {
        AggregatorOptions settings = options(method);
        settings.threads = setting.threads;
        Trainer trainer(std::move(communicators), settings);
        for (std::uint64_t step = 0; step < 5; ++step) {
          Values values = gradients(trainer.rank, step);
          trainer.average(values, setting.bucket_length);
          if (trainer.rank == 0 && step == 4) results.push_back(values);
        }
      });
    }
    for (const Values& result : results) EXPECT_EQ(result, results[0]) << method;
  }
}

TEST(Aggregator, GradScaleConvertsWhatWasKept) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), options("quantize:2"));
    const AggregatorState start = trainer.aggregator.state();
    std::vector<Values> unscaled;
    for (std::uint64_t step = 0; step < 4; ++step) {
      unscaled.push_back(gradients(trainer.rank, step));
      trainer.average(unscaled.back());
    }
    trainer.aggregator.load_state(start);
    float scale = 1.0f;
    for (std::uint64_t step = 0; step < 4; ++step, scale *= 16) {
      trainer.aggregator.set_grad_scale(scale);
      Values values = gradients(trainer.rank, step);
      for (auto& layer : values) {
        for (float& value : layer) value *= scale;
      }
      trainer.average(values);
      for (auto& layer : values) {
        for (float& value : layer) value /= scale;
      }
      EXPECT_EQ(values, unscaled[step]) << "step " << step;
    }
    EXPECT_THROW(trainer.aggregator.set_grad_scale(0), ConfigError);
  });
}

TEST(Aggregator, Bf16ResidualsLoseNothingOnAverage) {
  constexpr std::uint64_t kSteps = 200;
  double applied = 0, truth = 0, squares = 0;
  std::mutex mutex;
  run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
    AggregatorOptions settings = options("quantize:2:bucket=1024:rounding=stochastic");
    settings.residual = DType::bf16;
    Trainer trainer(std::move(lanes), settings);
    double sum = 0;
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      Values values = gradients(0, step);
      for (float value : values[0]) sum -= double{value};
      trainer.average(values);
      for (float value : values[0]) sum += double{value};
    }
    const std::lock_guard lock(mutex);
    applied += sum / 2;  // equal on both ranks
    const AggregatorState state = trainer.aggregator.state();
    for (float value : state.layers[0].residual) {
      applied += double{value} / 2;
      squares += double{value} * double{value} / 2;
    }
    EXPECT_EQ(trainer.aggregator.memory().residuals, 2 * (4608u + 14000 + 9000 + 6400));
  });
  // A rounding to 8 bits has a standard deviation of at most 2^-8 of the value.
  EXPECT_NEAR(applied, truth, 5 * std::sqrt(squares * kSteps) / 256);
  EXPECT_GT(std::abs(applied), 0.01) << "the residuals were not rounded at all";
}

TEST(Aggregator, RefusesForeignStates) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), options("quantize:4"));
    Values values = gradients(trainer.rank, 0);
    trainer.average(values);
    const AggregatorState good = trainer.aggregator.state();
    const auto refuses = [&](auto change) {
      AggregatorState bad = good;
      change(bad);
      EXPECT_THROW(trainer.aggregator.load_state(bad), StateError);
      EXPECT_EQ(trainer.aggregator.state().layers[0].residual, good.layers[0].residual);
    };
    refuses([](AggregatorState& s) { s.rank = 1 - s.rank; });
    refuses([](AggregatorState& s) { s.size = 3; });
    refuses([](AggregatorState& s) { s.layers.pop_back(); });
    refuses([](AggregatorState& s) { s.plan.layers[0] = "other"; });
    refuses([](AggregatorState& s) { s.plan.levels[1] = parse_level("topk:0.5"); });
    refuses([](AggregatorState& s) { s.layers[0].residual.pop_back(); });
    refuses([](AggregatorState& s) { s.layers[0].residual[0] = std::nanf(""); });
    refuses([](AggregatorState& s) { s.layers[0].factor = {1.0f}; });
  });
}

TEST(Aggregator, RefusesDuplicateNames) {
  const std::vector<LayerSpec> twice = {{.name = "a", .shape = {2}}, {.name = "a", .shape = {2}}};
  EXPECT_THROW(Aggregator(twice, {}, thread_communicators(1)), ConfigError);
}

TEST(Aggregator, RefusesALayerTwiceInOneBucketAndForgetsTheBucket) {
  Trainer trainer(thread_communicators(1), options("quantize:4"));
  Values values = gradients(0, 0);
  const Gradient layer{.layer = 3, .data = values[3].data()};
  const Gradient other{.layer = 2, .data = values[2].data()};
  EXPECT_THROW(trainer.aggregator.exchange({.gradients = {other, layer, layer}}), ConfigError);
  EXPECT_THROW(trainer.aggregator.exchange({.gradients = {{.layer = 99}}}), ConfigError);
  trainer.average(values);
}

TEST(Aggregator, RefusesTimeoutsThatNoClockCanTell) {
  for (const auto timeout : {std::chrono::milliseconds(0), std::chrono::milliseconds::max()}) {
    EXPECT_THROW(Aggregator(kModel, {.timeout = timeout}, thread_communicators(1)), ConfigError);
  }
}

// The average may fit though not what a rank has not sent of it: as a residual, that would be
// infinite, and every later step an overflow.
TEST(Aggregator, ValuesWhoseLossMayOverflowAreAnOverflowOfTheStep) {
  for (const auto& [first, others] : {std::pair{3.3e38f, -3.3e38f}, std::pair{2.8e38f, 0.0f}}) {
    run_ranks_on_lanes(3, 1, [first = first, others = others](Communicators lanes) {
      Trainer trainer(std::move(lanes), options("low_rank:1:min_ratio=1"));
      Values values;
      for (const LayerSpec& layer : kModel) values.emplace_back(layer.count(), 0.0f);
      values[0][0] = 1;
      trainer.average(values);  // turns the warm factor to the one value
      values[0][0] = trainer.rank == 0 ? first : others;
      trainer.average(values);
      EXPECT_TRUE(std::isnan(values[0][0])) << "on all ranks";
      values = gradients(trainer.rank, 0);
      trainer.average(values);
      EXPECT_TRUE(std::isfinite(values[0][0]));
      EXPECT_EQ(trainer.aggregator.stats().overflow_steps, 1u);
      EXPECT_EQ(trainer.aggregator.stats().steps, 2u);
    });
  }
}

TEST(Aggregator, TracesNameAStepAlikeOnAllTracks) {
  Trainer trainer(thread_communicators(1), options("quantize:4"));
  Values values = gradients(0, 0);
  values[0][0] = INFINITY;
  trainer.average(values);  // an overflow, which is no step
  trainer.aggregator.start_trace();
  values = gradients(0, 0);
  trainer.average(values, 2);
  std::set<std::string> tracks;
  for (const TraceEvent& event : trainer.aggregator.stop_trace()) {
    EXPECT_EQ(event.step, 0u) << event.track;
    tracks.insert(event.track);
  }
  EXPECT_EQ(tracks, (std::set<std::string>{"backward", "encode", "lane A", "lane B"}));
}

}  // namespace
}  // namespace lgreco
