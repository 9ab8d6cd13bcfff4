// Steps whose average is not applied: taken back, or made while compression is paused, they leave
// no trace. Laws of all methods, policies and kinds of residual.

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "tests/trainer.h"

namespace lgreco {
namespace {

struct Run {
  std::string name;
  AggregatorOptions options;
};

void PrintTo(const Run& run, std::ostream* out) { *out << run.name; }

std::vector<Run> runs() {
  std::vector<Run> runs;
  for (const char* method : {"dense", "cast:bf16", "quantize:4", "quantize:2:rounding=stochastic",
                             "topk:0.05", "low_rank:2:min_ratio=1"}) {
    for (const bool feedback : {true, false}) {
      AggregatorOptions settings = options(method);
      settings.error_feedback = feedback;
      runs.push_back({std::string(method) + (feedback ? "" : "_without_feedback"), settings});
    }
    AggregatorOptions half = options(method);
    half.residual = DType::bf16;
    runs.push_back({std::string(method) + "_bf16_residual", half});
    AggregatorOptions planned = options(method);
    planned.policy = LGrecoPolicy{.every = 6, .start = 3, .window = 2};
    runs.push_back({std::string(method) + "_planned", planned});
  }
  AggregatorOptions accordion = options("low_rank:2:min_ratio=1");
  accordion.policy = AccordionPolicy{.low = parse_level("low_rank:2:min_ratio=1"),
                                     .high = parse_level("low_rank:1:min_ratio=1"),
                                     .every = 3,
                                     .then = LGrecoPolicy{.every = 6, .start = 3, .window = 2}};
  runs.push_back({"accordion_planned", accordion});
  for (Run& run : runs) run.options.keep_previous = true;
  return runs;
}

class DroppedStep : public testing::TestWithParam<Run> {};

INSTANTIATE_TEST_SUITE_P(Runs, DroppedStep, testing::ValuesIn(runs()), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) c = std::isalnum(c) ? c : '_';
  return name;
});

constexpr std::uint64_t kSteps = 16;

std::vector<std::byte> state_of(Trainer& trainer) {
  AggregatorState state = trainer.aggregator.state();
  state.stats = {};
  return serialize(state);
}

/// States after each step, on rank 0.
using History = std::vector<std::vector<std::byte>>;

template <typename Extra>
History history(const AggregatorOptions& settings, const Extra& after_step) {
  History states;
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), settings);
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values, 2);
      after_step(trainer, step);
      if (trainer.rank == 0) states.push_back(state_of(trainer));
    }
  });
  return states;
}

TEST_P(DroppedStep, TakenBackLeavesNoTrace) {
  const History plain = history(GetParam().options, [](Trainer&, std::uint64_t) {});
  const History dropping = history(GetParam().options, [](Trainer& trainer, std::uint64_t step) {
    if (step + 1 == kSteps) return;  // what follows the step is done before the next one
    Values spike = gradients(trainer.rank, 100 + step);
    for (auto& layer : spike) {
      for (float& value : layer) value *= 1000;
    }
    trainer.average(spike, step % 2 == 0 ? 2 : kModel.size());
    EXPECT_TRUE(trainer.aggregator.discard_last_step());
    EXPECT_FALSE(trainer.aggregator.discard_last_step());
    EXPECT_EQ(trainer.aggregator.state().step, step + 1);
  });
  ASSERT_EQ(plain.size(), dropping.size());
  EXPECT_EQ(plain.back(), dropping.back());
}

TEST_P(DroppedStep, LostToAnOverflowNeedsNotBeTakenBack) {
  const History plain = history(GetParam().options, [](Trainer&, std::uint64_t) {});
  const History dropping = history(GetParam().options, [](Trainer& trainer, std::uint64_t step) {
    if (step + 1 == kSteps) return;  // what follows the step is done before the next one
    Values bad = gradients(trainer.rank, 100 + step);
    if (trainer.rank == 1) bad[2][0] = std::numeric_limits<float>::infinity();
    trainer.average(bad, 2);
    EXPECT_FALSE(trainer.aggregator.discard_last_step());
  });
  EXPECT_EQ(plain.back(), dropping.back());
}

TEST_P(DroppedStep, PausedPassesAreExactAndLeaveNoTrace) {
  const History plain = history(GetParam().options, [](Trainer&, std::uint64_t) {});
  const History pausing = history(GetParam().options, [](Trainer& trainer, std::uint64_t step) {
    const auto before = state_of(trainer);
    trainer.aggregator.pause(true);
    for (const std::uint64_t pass : {100 + step, 200 + step}) {
      const Values a = gradients(0, pass), b = gradients(1, pass);
      Values values = gradients(trainer.rank, pass);
      trainer.average(values, pass % 2 == 0 ? 3 : kModel.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        for (std::size_t j = 0; j < values[i].size(); ++j) {
          ASSERT_EQ(values[i][j], (a[i][j] + b[i][j]) * 0.5f);
        }
      }
    }
    trainer.aggregator.pause(false);
    EXPECT_EQ(state_of(trainer), before);
  });
  EXPECT_EQ(plain, pausing);
}

// Saved where a step may still be taken back, before what follows it was done.
TEST_P(DroppedStep, RunSavedBeforeThePlanIsResumed) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), GetParam().options);
    std::vector<AggregatorState> states;
    std::vector<Values> results;
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      states.push_back(trainer.aggregator.state());
      results.push_back(gradients(trainer.rank, step));
      trainer.average(results.back(), 2);
    }
    for (const std::uint64_t from : {3, 4, 9, 10}) {
      trainer.aggregator.load_state(states[from]);
      for (std::uint64_t step = from; step < kSteps; ++step) {
        Values values = gradients(trainer.rank, step);
        trainer.average(values, 2);
        ASSERT_EQ(values, results[step]) << "from " << from << " at " << step;
      }
    }
  });
}

// Also the second time at the same step, and for layers that only one of the passes had.
TEST(DiscardLastStep, LeavesAloneWhatTheStepDidNotTouch) {
  AggregatorOptions settings = options("topk:0.05");
  settings.keep_previous = true;
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), settings);
    for (std::uint64_t step = 0; step < 3; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values);
    }
    const auto before = state_of(trainer);
    const auto pass = [&](bool present) {
      Values values = gradients(trainer.rank, 99);
      Bucket bucket;
      for (std::size_t i = 0; i < values.size(); ++i) {
        bucket.gradients.push_back(
            {.layer = i, .data = values[i].data(), .present = present || i % 2 == 0});
      }
      trainer.aggregator.exchange(bucket);
      EXPECT_TRUE(trainer.aggregator.discard_last_step());
      AggregatorState state = trainer.aggregator.state();
      state.stats = {};
      state.unsettled = true;  // done before the first of these passes
      EXPECT_EQ(serialize(state), before) << present;
    };
    for (const bool present : {true, false, true, false}) pass(present);
  });
}

TEST(Notices, CountStepsByASampleWhereReadingParametersCostsTooMuch) {
  AggregatorOptions settings = options("topk:0.05");
  float parameter = 0;
  settings.parameter = [](std::size_t) -> std::span<const std::byte> {
    throw std::logic_error("read whole");
  };
  settings.parameter_sample = [&] { return std::vector<float>{parameter}; };
  settings.drift_check_every = 0;
  run_ranks_on_lanes(1, 1, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), settings);
    for (const bool applied : {true, true, false, true}) {
      Values values = gradients(trainer.rank, 1);
      trainer.average(values);
      if (applied) parameter += 1;
    }
    EXPECT_EQ(trainer.aggregator.notices().unapplied_steps, 1u);
  });
}

TEST(Notices, CountStepsThatNobodyApplied) {
  AggregatorOptions settings = options("topk:0.05");
  settings.keep_previous = true;
  Values parameters = gradients(0, 1000);
  settings.parameter = [&](std::size_t layer) {
    return std::as_bytes(std::span(parameters[layer]));
  };
  settings.drift_check_every = 0;
  run_ranks_on_lanes(1, 1, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), settings);
    const auto step = [&](bool applied) {
      Values values = gradients(trainer.rank, 1);
      trainer.average(values);
      if (applied) parameters[0][0] += 1;
    };
    for (int i = 0; i < 3; ++i) step(true);
    EXPECT_EQ(trainer.aggregator.notices().unapplied_steps, 0u);
    step(false);
    EXPECT_TRUE(trainer.aggregator.discard_last_step());
    step(false);
    EXPECT_EQ(trainer.aggregator.notices().unapplied_steps, 0u);
    step(true);
    EXPECT_EQ(trainer.aggregator.notices().unapplied_steps, 1u);
  });
}

TEST(DiscardLastStep, NeedsWhatWasBefore) {
  run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), options("quantize:4"));
    EXPECT_THROW(trainer.aggregator.discard_last_step(), ConfigError);
  });
}

TEST(Reset, ForgetsWhatWasNotSent) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), options("low_rank:2:min_ratio=1"));
    for (std::uint64_t step = 0; step < 3; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values);
    }
    EXPECT_GT(trainer.aggregator.stats().residual_norm, 0);
    const auto factor = trainer.aggregator.state().layers[2].factor;
    trainer.aggregator.reset();
    EXPECT_EQ(trainer.aggregator.stats().residual_norm, 0);
    const AggregatorState state = trainer.aggregator.state();
    EXPECT_EQ(state.step, 3u);
    EXPECT_EQ(state.layers[2].factor.size(), factor.size());
    EXPECT_NE(state.layers[2].factor, factor);
    Values values = gradients(trainer.rank, 3);
    trainer.average(values);
  });
}

// The plan stays: neither a plan in the making nor a start that is due is lost or made from
// nothing.
TEST(Reset, KeepsThePlanAndWhatFollowsTheStep) {
  AggregatorOptions settings = options("quantize:4");
  settings.keep_previous = true;
  settings.start = 2;
  settings.policy = LGrecoPolicy{.every = 40, .start = 40, .window = 3};
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), settings);
    Plan planned;
    for (std::uint64_t step = 0; step < 125; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values, 2);
      const std::uint64_t now = step + 1;
      if (now == 2 || now == 79) trainer.aggregator.reset();
      if (now == 3) {
        EXPECT_NE(trainer.aggregator.plan().levels[0], Level{});
      }
      if (now == 70) planned = trainer.aggregator.plan();
      if (now == 90) {
        EXPECT_EQ(trainer.aggregator.plan().hash(), planned.hash());
      }
    }
    EXPECT_EQ(trainer.aggregator.stats().plans, 2u);  // at 40 and 120
    EXPECT_EQ(trainer.aggregator.stats().plan_failures, 1u);
  });
}

TEST(GradScale, FirstCallSaysWhatItWasAllAlong) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    Trainer trainer(std::move(lanes), options("topk:0.05"));
    for (std::uint64_t step = 0; step < 3; ++step) {
      Values values = gradients(trainer.rank, step);
      trainer.average(values);
    }
    const auto before = trainer.aggregator.state().layers;
    trainer.aggregator.set_grad_scale(65536);
    EXPECT_EQ(trainer.aggregator.state().layers[0].residual, before[0].residual);
    trainer.aggregator.set_grad_scale(32768);
    const auto after = trainer.aggregator.state().layers;
    for (std::size_t i = 0; i < before[0].residual.size(); ++i) {
      ASSERT_EQ(after[0].residual[i], before[0].residual[i] / 2);
    }
  });
}

// Nothing that is finite stays unsent for ever.
TEST(GradScale, ResidualThatCannotBeSentIsDropped) {
  for (const DType dtype : {DType::f32, DType::f16}) {
    run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      Aggregator aggregator({{.name = "only", .shape = {100, 100}, .dtype = dtype}},
                            options("topk:0.01"), std::move(lanes));
      std::vector<float> wide(10000, 1.0f + static_cast<float>(rank));
      std::vector<std::uint16_t> half(10000, 0x3C00);
      void* data = dtype == DType::f32 ? static_cast<void*>(wide.data()) : half.data();
      const auto step = [&] {
        std::fill(wide.begin(), wide.end(), 1.0f);
        std::fill(half.begin(), half.end(), 0x3C00);
        aggregator.exchange({.gradients = {{.layer = 0, .data = data}}, .last = true});
      };
      for (int i = 0; i < 3; ++i) step();
      aggregator.set_grad_scale(1);
      aggregator.set_grad_scale(dtype == DType::f32 ? 0x1p127 : 0x1p17);
      step();
      for (int i = 0; i < 3; ++i) step();
      const Stats stats = aggregator.stats();
      EXPECT_GE(stats.dropped_residuals, 1u);
      EXPECT_LE(stats.overflow_steps, 1u);
      EXPECT_GE(stats.steps, 5u);
      aggregator.load_state(aggregator.state());
    });
  }
}

}  // namespace
}  // namespace lgreco
