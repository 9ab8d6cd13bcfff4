// What one rank alone says: the step fails with the same error on every rank, leaves no trace, and
// once the others have said the same the run goes on.

#include <gtest/gtest.h>

#include <functional>
#include <mutex>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "tests/trainer.h"

namespace lgreco {
namespace {

struct Call {
  const char* name;
  const char* method;
  Policy policy;
  std::function<void(Aggregator&)> call;
  const char* differ;  // in what, as the error says
};

void PrintTo(const Call& call, std::ostream* out) { *out << call.name; }

std::vector<Call> calls() {
  const AccordionPolicy accordion{.low = parse_level("low_rank:2:min_ratio=1"),
                                  .high = parse_level("low_rank:1:min_ratio=1"),
                                  .every = 3};
  const auto decay = [](Aggregator& a) { a.on_learning_rate_change(0.1, 0.01); };
  const auto scale = [](Aggregator& a) { a.set_grad_scale(2); };
  const auto reset = [](Aggregator& a) { a.reset(); };
  const auto discard = [](Aggregator& a) { EXPECT_TRUE(a.discard_last_step()); };
  const auto pause = [](Aggregator& a) { a.pause(true); };
  return {{"decay", "low_rank:2:min_ratio=1", accordion, decay, "learning rate"},
          {"scale", "quantize:4", UniformPolicy{}, scale, "gradient scale"},
          {"scale_under_accordion", "low_rank:2:min_ratio=1", accordion, scale, "gradient scale"},
          {"reset", "low_rank:2:min_ratio=1", UniformPolicy{}, reset, "reset"},
          {"reset_while_planning", "topk:0.05", LGrecoPolicy{.every = 8, .start = 4, .window = 2},
           reset, "reset"},
          {"discard", "topk:0.05", UniformPolicy{}, discard, "step"},
          {"pause", "dense", UniformPolicy{}, pause, "paused"}};
}

class OneSided : public testing::TestWithParam<std::tuple<Call, int>> {};

INSTANTIATE_TEST_SUITE_P(Calls, OneSided,
                         testing::Combine(testing::ValuesIn(calls()), testing::Values(1, 2)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_on_" +
                                  std::to_string(std::get<1>(info.param)) + "_lanes";
                         });

std::string failure_of(Trainer& trainer, std::uint64_t step) {
  Values values = gradients(trainer.rank, step);
  try {
    trainer.average(values, 2);
  } catch (const MismatchError& error) {
    return error.what();
  }
  return "";
}

/// Without counters, and with what every step begins with: what follows the one before.
std::vector<std::byte> content(Aggregator& aggregator) {
  AggregatorState state = aggregator.state();
  state.stats = {};
  state.unsettled = false;
  return serialize(state);
}

TEST_P(OneSided, CallFailsAlikeOnAllRanks) {
  const auto& [call, lanes] = GetParam();
  constexpr int kRanks = 3, kCaller = 1;
  constexpr std::uint64_t kBefore = 5;
  AggregatorOptions settings = options(call.method);
  settings.policy = call.policy;
  settings.keep_previous = true;
  settings.timeout = std::chrono::seconds(20);
  std::vector<std::string> failures(kRanks), again(kRanks);
  std::vector<Values> results(kRanks);
  run_ranks_on_lanes(kRanks, lanes, [&, &call = call](Communicators communicators) {
    Trainer trainer(std::move(communicators), settings);
    const auto rank = static_cast<std::size_t>(trainer.rank);
    trainer.aggregator.set_grad_scale(1);
    AggregatorState saved;
    for (std::uint64_t step = 0; step < kBefore; ++step) {
      saved = trainer.aggregator.state();
      Values values = gradients(trainer.rank, step);
      trainer.average(values, 2);
    }
    if (trainer.rank == kCaller) call.call(trainer.aggregator);
    const auto before = content(trainer.aggregator);
    failures[rank] = failure_of(trainer, kBefore);
    again[rank] = failure_of(trainer, kBefore);
    EXPECT_EQ(content(trainer.aggregator), before);
    if (std::string(call.name) == "discard") {  // too late for the others
      trainer.aggregator.load_state(saved);
    } else if (trainer.rank != kCaller) {
      call.call(trainer.aggregator);
    }
    results[rank] = gradients(trainer.rank, kBefore);
    trainer.average(results[rank], 2);
  });
  EXPECT_NE(failures[0].find(call.differ), std::string::npos) << failures[0];
  for (std::size_t rank = 0; rank < kRanks; ++rank) {
    EXPECT_EQ(failures[rank], failures[0]);
    EXPECT_EQ(again[rank], failures[0]);
    EXPECT_EQ(results[rank], results[0]);
  }
}

// Messages of other sizes than expected: nobody can tell what was meant, but all notice in time.
TEST(OneSidedPause, OfACompressedRunEndsItOnAllRanks) {
  AggregatorOptions settings = options("quantize:4");
  settings.timeout = std::chrono::seconds(5);
  run_ranks_on_lanes(2, 2, [&](Communicators communicators) {
    Trainer trainer(std::move(communicators), settings);
    if (trainer.rank == 1) trainer.aggregator.pause(true);
    Values values = gradients(trainer.rank, 0);
    EXPECT_THROW(trainer.average(values), PeerError);
  });
}

TEST(Registration, ComparesTheSettingsOfTheCaller) {
  std::vector<std::string> failures(2);
  run_ranks_on_lanes(2, 1, [&](Communicators communicators) {
    AggregatorOptions settings = options("quantize:4");
    const int rank = communicators[0]->rank();
    settings.caller_settings = {{"static_graph", rank == 0 ? "True" : "False"}};
    try {
      Trainer trainer(std::move(communicators), settings);
    } catch (const MismatchError& error) {
      failures[static_cast<std::size_t>(rank)] = error.what();
    }
  });
  EXPECT_NE(failures[0].find("static_graph"), std::string::npos) << failures[0];
  EXPECT_EQ(failures[0], failures[1]);
}

TEST(Layers, ThatSomeRankGivesAreKnownToAll) {
  run_ranks_on_lanes(3, 1, [&](Communicators communicators) {
    Trainer trainer(std::move(communicators), options("quantize:4"));
    Aggregator& aggregator = trainer.aggregator;
    std::vector<bool> given(kModel.size());
    EXPECT_EQ(aggregator.agree_on_layers(given, ""), given);
    given[static_cast<std::size_t>(trainer.rank)] = true;
    const std::vector<bool> expected = {true, true, true, false, false, false};
    EXPECT_EQ(aggregator.agree_on_layers(given, ""), expected);
    try {
      aggregator.agree_on_layers(given, trainer.rank == 1 ? "[test] no such layer" : "");
      ADD_FAILURE();
    } catch (const ConfigError& error) {
      EXPECT_STREQ(error.what(), "[test] no such layer");
    }
    EXPECT_EQ(aggregator.agree_on_layers(given, ""), expected);
  });
}

}  // namespace
}  // namespace lgreco
