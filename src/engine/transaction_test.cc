// A step that fails anywhere changes nothing anywhere, and the next one goes on.

#include <gtest/gtest.h>

#include <future>
#include <latch>
#include <random>

#include "lgreco/aggregator.h"
#include "lgreco/status.h"
#include "tests/faulty_communicator.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

const std::vector<LayerSpec> kModel = {{.name = "a", .shape = {48, 96}},
                                       {.name = "b", .shape = {9000}},
                                       {.name = "c", .shape = {40, 80}},
                                       {.name = "d", .shape = {33}}};

using Values = std::vector<std::vector<float>>;

Values gradients(int rank, std::uint64_t step) {
  std::mt19937 generator(static_cast<unsigned>(100 * step + static_cast<std::uint64_t>(rank)));
  std::normal_distribution<float> normal;
  Values values;
  for (const LayerSpec& layer : kModel) {
    for (float& value : values.emplace_back(layer.count())) value = normal(generator);
  }
  return values;
}

/// One step of two buckets: its failure, if it fails.
std::exception_ptr failure_of(Aggregator& aggregator, Values& values) {
  std::promise<std::exception_ptr> results[2];
  for (std::size_t bucket : {0u, 1u}) {
    const std::size_t first = 2 * bucket;
    aggregator.submit({.gradients = {{.layer = first, .data = values[first].data()},
                                     {.layer = first + 1, .data = values[first + 1].data()}},
                       .last = bucket == 1},
                      [result = &results[bucket]](const std::exception_ptr& failure) {
                        result->set_value(failure);
                      });
  }
  const auto first = results[0].get_future().get();
  const auto second = results[1].get_future().get();
  EXPECT_EQ(first == nullptr, second == nullptr) << "one verdict for the whole step";
  return first;
}

void average(Aggregator& aggregator, Values& values) {
  if (const auto failure = failure_of(aggregator, values)) std::rethrow_exception(failure);
}

std::string message_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    return error.what();
  }
}

void expect_same_state(const AggregatorState& a, const AggregatorState& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.plan.hash(), b.plan.hash());
  for (std::size_t i = 0; i < kModel.size(); ++i) {
    EXPECT_EQ(a.layers[i].residual, b.layers[i].residual) << kModel[i].name;
    EXPECT_EQ(a.layers[i].factor, b.layers[i].factor) << kModel[i].name;
    EXPECT_EQ(a.layers[i].window, b.layers[i].window) << kModel[i].name;
  }
}

const char* const kMethods[] = {"dense",
                                "cast:bf16",
                                "quantize:4",
                                "topk:0.05",
                                "low_rank:2:min_ratio=1",
                                "low_rank:2:min_ratio=1:factors=bf16"};

// Every kind of damage, in every collective of a step on every lane, on one rank of three: more
// than 500 cases. All are found, on all ranks, before anything changes; the next step is as if the
// failed one had not been, except after damage to the closing agreement.
TEST(Transaction, EveryDamagedMessageIsFoundBeforeAnythingChanges) {
  constexpr int kRanks = 3;
  int injected = 0;
  for (const char* method : kMethods) {
    for (const Fault fault :
         {Fault::bit, Fault::burst, Fault::truncate, Fault::duplicate, Fault::reorder}) {
      for (const int lane : {0, 1}) {
        for (int collective = 0; collective < 5; ++collective) {
          for (const int victim : {0, 1, 2}) {
            std::vector<FaultPlan> plans(2);
            std::atomic<int> failures = 0;
            std::atomic<bool> permanent = false;
            run_ranks_on_lanes(kRanks, 2, [&](Communicators lanes) {
              const int rank = lanes[0]->rank();
              if (rank == victim) {
                for (std::size_t i : {0u, 1u}) {
                  lanes[i] = std::make_unique<FaultyCommunicator>(std::move(lanes[i]), plans[i]);
                }
              }
              Aggregator aggregator(kModel, {.method = parse_level(method)}, std::move(lanes));
              Values values = gradients(rank, 0);
              average(aggregator, values);
              const AggregatorState before = aggregator.state();
              if (rank == victim) {
                plans[static_cast<std::size_t>(lane)] = {
                    .fault = fault,
                    .countdown = collective,
                    .seed = static_cast<unsigned>(17 * collective + victim)};
              }
              values = gradients(rank, 1);
              const auto failure = failure_of(aggregator, values);
              if (failure) {
                ++failures;
                expect_same_state(aggregator.state(), before);
                if (message_of(failure).find("commit") != std::string::npos) permanent = true;
              }
            });
            const FaultPlan& plan = plans[static_cast<std::size_t>(lane)];
            if (!plan.was_injected) {  // the lane has fewer collectives, or nothing was different
              EXPECT_EQ(failures, 0);
              continue;
            }
            ++injected;
            EXPECT_EQ(failures, permanent ? 1 : kRanks)
                << method << ", fault " << static_cast<int>(fault) << ", lane " << lane
                << ", collective " << collective;
          }
        }
      }
    }
  }
  EXPECT_GE(injected, 500);
}

TEST(Transaction, AfterADamagedMessageTheRunGoesOnAsIfTheStepHadNotBeen) {
  for (const char* method : kMethods) {
    run_ranks_on_lanes(3, 2, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      FaultPlan plan;
      if (rank == 1) lanes[0] = std::make_unique<FaultyCommunicator>(std::move(lanes[0]), plan);
      Aggregator aggregator(kModel, {.method = parse_level(method)}, std::move(lanes));
      const AggregatorState start = aggregator.state();
      std::vector<Values> undisturbed;
      for (std::uint64_t step = 0; step < 3; ++step) {
        undisturbed.push_back(gradients(rank, step));
        average(aggregator, undisturbed.back());
      }
      aggregator.load_state(start);
      for (std::uint64_t step = 0; step < 3; ++step) {
        plan = {.fault = Fault::bit, .countdown = 0, .seed = static_cast<unsigned>(step)};
        Values lost = gradients(rank, 50 + step);
        const auto failure = failure_of(aggregator, lost);
        ASSERT_TRUE(failure);
        EXPECT_THROW(std::rethrow_exception(failure), ProtocolError);
        EXPECT_NE(message_of(failure).find("rank 1, step " + std::to_string(step)),
                  std::string::npos)
            << "every rank names the place: " << message_of(failure);
        Values values = gradients(rank, step);
        average(aggregator, values);
        ASSERT_EQ(values, undisturbed[step]) << method << ", step " << step;
      }
      EXPECT_EQ(aggregator.stats().failed_steps, 3u);
      EXPECT_EQ(aggregator.stats().steps, 3u);
    });
  }
}

TEST(Transaction, ExceptionOnOneRankIsTheSameErrorOnAllAndCostsOneStep) {
  run_ranks_on_lanes(3, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    enum class Throws { nothing, exception, number };
    std::atomic<Throws> throws = Throws::nothing;
    const std::vector<std::byte> parameter(8);
    AggregatorOptions options{.method = parse_level("quantize:4")};
    options.drift_check_every = 1;
    options.parameter = [&](std::size_t) -> std::span<const std::byte> {
      if (throws == Throws::exception && rank == 2) throw std::runtime_error("out of luck");
      if (throws == Throws::number && rank == 2) throw 7;
      return parameter;
    };
    Aggregator aggregator(kModel, options, std::move(lanes));
    Values values = gradients(rank, 0);
    average(aggregator, values);
    const AggregatorState before = aggregator.state();
    for (const auto& [what, reason] :
         {std::pair{Throws::exception, "out of luck"},
          std::pair{Throws::number, "an exception that is no std::exception"}}) {
      throws = what;
      const auto failure = failure_of(aggregator, values);
      ASSERT_TRUE(failure);
      EXPECT_EQ(message_of(failure),
                std::string("[rank 2, step 1, comparing parameters] ") + reason);
      expect_same_state(aggregator.state(), before);
    }
    throws = Throws::nothing;
    EXPECT_FALSE(failure_of(aggregator, values));
  });
}

TEST(Transaction, DeadPeerIsATypedErrorThatStays) {
  run_ranks_on_lanes(3, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    Aggregator aggregator(kModel, {.method = parse_level("quantize:4")}, std::move(lanes));
    Values values = gradients(rank, 0);
    average(aggregator, values);
    if (rank == 2) return;  // leaves
    const AggregatorState before = aggregator.state();
    const auto failure = failure_of(aggregator, values);
    ASSERT_TRUE(failure);
    EXPECT_THROW(std::rethrow_exception(failure), PeerError);
    EXPECT_NE(message_of(failure).find("step 1, bucket "), std::string::npos)
        << message_of(failure);
    EXPECT_EQ(message_of(failure_of(aggregator, values)), message_of(failure));
    expect_same_state(aggregator.state(), before);
  });
}

TEST(Transaction, AStepMayTakeItsTimeoutAndNoMore) {
  std::latch given_up(1);
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    AggregatorOptions options{.method = parse_level("quantize:4")};
    options.timeout = std::chrono::seconds(3);
    Aggregator aggregator(kModel, options, std::move(lanes));
    Values values = gradients(rank, 0);
    average(aggregator, values);
    if (rank == 1) {  // frozen, as far as anybody would wait
      for (int i = 0; i < 600 && !given_up.try_wait(); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
      return;
    }
    const auto begin = Clock::now();
    const auto failure = failure_of(aggregator, values);
    given_up.count_down();
    EXPECT_GE(Clock::now() - begin, options.timeout);
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(60));
    ASSERT_TRUE(failure);
    EXPECT_THROW(std::rethrow_exception(failure), PeerError);
  });
}

TEST(Transaction, StateInTheMiddleOfAStepIsThatOfTheStepBefore) {
  for (const char* method : kMethods) {
    run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      AggregatorOptions options{.method = parse_level(method)};
      options.policy = AccordionPolicy{.low = options.method, .high = options.method, .every = 50};
      Aggregator aggregator(kModel, options, std::move(lanes));
      Values values = gradients(rank, 0);
      average(aggregator, values);
      const AggregatorState before = aggregator.state();
      values = gradients(rank, 1);
      std::promise<std::exception_ptr> first, second;
      const auto submit = [&](std::size_t layer, bool last, auto& result) {
        aggregator.submit(
            {.gradients = {{.layer = layer, .data = values[layer].data()}}, .last = last},
            [&result](const std::exception_ptr& failure) { result.set_value(failure); });
      };
      submit(0, /*last=*/false, first);
      expect_same_state(aggregator.state(), before);
      EXPECT_EQ(aggregator.stats().steps, 1u);
      submit(1, /*last=*/true, second);
      EXPECT_FALSE(first.get_future().get());
      EXPECT_FALSE(second.get_future().get());
      EXPECT_EQ(aggregator.stats().steps, 2u);
    });
  }
}

TEST(Latest, IsOfTheStepsThatHaveEndedAndWaitsForNone) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    AggregatorOptions options{.method = parse_level("quantize:4")};
    options.policy = AccordionPolicy{
        .low = parse_level("quantize:4"), .high = parse_level("quantize:2"), .every = 2};
    options.keep_previous = true;
    Aggregator aggregator(kModel, options, std::move(lanes));
    for (std::uint64_t step = 0; step < 7; ++step) {
      EXPECT_EQ(aggregator.latest().stats.steps, step);
      Values values = gradients(rank, step);
      // On the encoder's thread, in the middle of the step: whoever waits there does so for ever.
      const auto look = [&](std::span<Gradient>, Deadline) {
        EXPECT_EQ(aggregator.latest().stats.steps, step);
      };
      aggregator.exchange({.gradients = {{.layer = 0, .data = values[0].data()},
                                         {.layer = 1, .data = values[1].data()}},
                           .fetch = look});
      const Latest latest = aggregator.latest();
      const Stats stats = aggregator.stats();
      EXPECT_EQ(latest.stats.steps, step + 1);
      EXPECT_EQ(latest.stats.bytes_sent, stats.bytes_sent);
      EXPECT_EQ(latest.stats.encode_s, stats.encode_s);
      EXPECT_EQ(latest.plan_version, aggregator.plan().version);
    }
    EXPECT_GT(aggregator.latest().plan_version, 0u);
    EXPECT_TRUE(aggregator.discard_last_step());
    EXPECT_EQ(aggregator.latest().stats.steps, 6u);
  });
}

TEST(Transaction, ClosingInTheMiddleOfAStepIsAnErrorNotAHang) {
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    Values values = gradients(rank, 0);
    std::exception_ptr failure;
    {
      Aggregator aggregator(kModel, {.method = parse_level("low_rank:2:min_ratio=1")},
                            std::move(lanes));
      aggregator.submit({.gradients = {{.layer = 0, .data = values[0].data()}}, .last = false},
                        [&](const std::exception_ptr& reason) { failure = reason; });
    }
    ASSERT_TRUE(failure);
    EXPECT_THROW(std::rethrow_exception(failure), PeerError);
  });
}

TEST(Agreement, NamesTheFirstSettingThatDiffersOnEveryRank) {
  const auto expect_mismatch = [](auto change, const std::string& expected) {
    run_ranks_on_lanes(3, 2, [&](Communicators lanes) {
      std::vector<LayerSpec> model = kModel;
      AggregatorOptions options{.method = parse_level("quantize:4")};
      if (lanes[0]->rank() == 1) change(model, options);
      try {
        Aggregator aggregator(model, options, std::move(lanes));
        ADD_FAILURE() << "no error: " << expected;
      } catch (const MismatchError& error) {
        EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("rank 1 has"), std::string::npos) << error.what();
      }
    });
  };
  using Model = std::vector<LayerSpec>;
  using Options = AggregatorOptions;
  expect_mismatch([](Model&, Options& o) { o.method = parse_level("quantize:2"); },
                  "method: rank 0 has 'quantize:4', rank 1 has 'quantize:2'");
  expect_mismatch([](Model&, Options& o) { o.seed = 5; }, "seed: rank 0 has '0', rank 1 has '5'");
  expect_mismatch([](Model&, Options& o) { o.start = 5; }, "start");
  expect_mismatch([](Model&, Options& o) { o.error_feedback = false; }, "error_feedback");
  expect_mismatch([](Model&, Options& o) { o.residual = DType::bf16; }, "residual");
  expect_mismatch([](Model&, Options& o) { o.drift_check_every = 7; }, "drift_check_every");
  expect_mismatch([](Model&, Options& o) { o.policy = LGrecoPolicy{}; }, "policy");
  expect_mismatch([](Model& m, Options&) { m.pop_back(); }, "number of layers");
  expect_mismatch([](Model& m, Options&) { std::swap(m[0], m[2]); },
                  "layer 0: rank 0 has 'a (48, 96) fp32', rank 1 has 'c (40, 80) fp32'");
  expect_mismatch([](Model& m, Options&) { m[1].shape = {90, 100}; }, "layer 1");
  expect_mismatch([](Model& m, Options&) { m[3].dtype = DType::bf16; }, "layer 3");
}

TEST(Agreement, ParametersThatDriftApartAreNamed) {
  run_ranks_on_lanes(3, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    std::vector<std::vector<float>> parameters(kModel.size(), std::vector<float>(10, 1.0f));
    AggregatorOptions options{.method = parse_level("quantize:4")};
    options.drift_check_every = 2;
    options.parameter = [&](std::size_t layer) {
      return std::as_bytes(std::span(parameters[layer]));
    };
    Aggregator aggregator(kModel, options, std::move(lanes));
    Values values = gradients(rank, 0);
    EXPECT_FALSE(failure_of(aggregator, values));
    if (rank == 2) parameters[2][5] = std::nextafter(1.0f, 2.0f);
    EXPECT_FALSE(failure_of(aggregator, values)) << "not compared in step 1";
    const auto failure = failure_of(aggregator, values);
    ASSERT_TRUE(failure);
    EXPECT_THROW(std::rethrow_exception(failure), MismatchError);
    EXPECT_NE(message_of(failure).find("layer 'c' on rank 2"), std::string::npos)
        << message_of(failure);
    parameters[2][5] = 1.0f;
    EXPECT_FALSE(failure_of(aggregator, values)) << "goes on once they agree";
  });
}

}  // namespace
}  // namespace lgreco
