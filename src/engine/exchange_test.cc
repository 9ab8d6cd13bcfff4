// An exchange conducts values it knows nothing of: here, one byte a rank.

#include "src/engine/exchange.h"

#include <gtest/gtest.h>

#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

const std::vector<LayerSpec> kModel = {{.name = "a", .shape = {3}}, {.name = "b", .shape = {2}}};

/// What happens to a rank's values.
struct Script {
  int rounds = 1;
  bool gathered = false;      // everybody sends to everybody, nobody reduces
  std::string throws_in;      // a stage, such as "reduce 0"
  std::string non_finite_in;  // a stage that finds layer 1 non-finite
  std::vector<std::string> calls;
  std::vector<Presence> seen;  // of layer 1, at the beginning of each stage
  int result = 0;
};

/// Sums (rank + 1) over the ranks; in two rounds, that sum again.
class Bytes final : public BucketValues {
 public:
  Bytes(Place place, Script& script) : place_(place), script_(script) {
    const std::vector<std::size_t> one(static_cast<std::size_t>(place.ranks), 1);
    sizes_.rounds = script.rounds;
    const bool two = script.rounds == 2;
    if (!script.gathered) sizes_.scatter_a = one;
    if (script.gathered || two) sizes_.gather_a = one;
    if (!script.gathered && two) sizes_.scatter_b = one;
    if (!script.gathered || two) sizes_.gather_b = one;
  }

  const MessageSizes& sizes() const override { return sizes_; }
  std::span<Presence> presence() override { return presence_; }
  Findings findings() const override { return {.has_gradient = true}; }

  void start(std::span<const Gradient> gradients, const StepContext&) override {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      presence_[i] = gradients[i].present ? Presence::present : Presence::absent;
    }
    script_.calls.emplace_back("start");
  }
  void encode(int round, const BucketBodies& bodies) override {
    begin("encode " + std::to_string(round));
    if (round == 1) value_ = sum(bodies.gather_a.in) / place_.ranks;
    if (script_.gathered) {
      const MessageBodies& all = round == 0 ? bodies.gather_a : bodies.gather_b;
      all.out[static_cast<std::size_t>(place_.rank)][0] = static_cast<std::byte>(value_);
      return;
    }
    const MessageBodies& to = round == 0 ? bodies.scatter_a : bodies.scatter_b;
    for (int peer = 0; peer < place_.ranks; ++peer) {
      const std::span<std::byte> body = to.out[static_cast<std::size_t>(peer)];
      EXPECT_EQ(body.empty(), peer == place_.rank);
      if (!body.empty()) body[0] = static_cast<std::byte>(value_);
    }
  }
  void reduce(int round, const BucketBodies& bodies) override {
    begin("reduce " + std::to_string(round));
    const MessageBodies& from = round == 0 ? bodies.scatter_a : bodies.scatter_b;
    const MessageBodies& to = round + 1 < script_.rounds ? bodies.gather_a : bodies.gather_b;
    to.out[static_cast<std::size_t>(place_.rank)][0] =
        static_cast<std::byte>(value_ + sum(from.in));
  }
  void check(const BucketBodies& bodies) override {
    begin("check");
    const bool in_first = script_.gathered && script_.rounds == 1;
    const int total = sum(in_first ? bodies.gather_a.in : bodies.gather_b.in);
    script_.result = script_.gathered ? total : total / place_.ranks;
  }
  void finish(const BucketBodies&, bool commit) override { begin(commit ? "commit" : "leave"); }

 private:
  static int sum(const std::vector<std::span<const std::byte>>& bodies) {
    int sum = 0;
    for (const auto body : bodies) sum += body.empty() ? 0 : std::to_integer<int>(body[0]);
    return sum;
  }
  void begin(const std::string& stage) {
    script_.calls.push_back(stage);
    script_.seen.push_back(presence_[1]);
    if (stage == script_.throws_in) throw std::runtime_error("out of luck");
    if (stage == script_.non_finite_in) presence_[1] = Presence::non_finite;
  }

  Place place_;
  Script& script_;
  MessageSizes sizes_;
  std::vector<Presence> presence_ = std::vector<Presence>(kModel.size());
  int value_ = place_.rank + 1;
};

class BytesOfARank final : public Values {
 public:
  BytesOfARank(Place place, Script& script) : place_(place), script_(script) {}
  std::unique_ptr<BucketValues> bucket(std::span<const std::size_t>) override {
    return std::make_unique<Bytes>(place_, script_);
  }

 private:
  Place place_;
  Script& script_;
};

constexpr int kRanks = 3;

struct Outcome {
  std::vector<Script> scripts;  // by rank
  std::vector<std::optional<Failure>> failures;
  std::vector<bool> overflowed;
  std::vector<std::uint64_t> collectives;
};

/// One exchange on three ranks, `script` on the last one.
Outcome exchange(const Script& script) {
  Outcome outcome{
      std::vector<Script>(kRanks, Script{.rounds = script.rounds, .gathered = script.gathered}),
      std::vector<std::optional<Failure>>(kRanks), std::vector<bool>(kRanks),
      std::vector<std::uint64_t>(kRanks)};
  outcome.scripts.back() = script;
  std::mutex mutex;
  run_ranks(kRanks, [&](std::unique_ptr<Communicator> inner) {
    CountingCommunicator communicator(std::move(inner));
    const Place place{communicator.rank(), kRanks};
    const auto rank = static_cast<std::size_t>(place.rank);
    BytesOfARank values(place, outcome.scripts[rank]);
    Trace trace;
    const std::vector<Gradient> gradients = {{.layer = 0}, {.layer = 1, .present = rank != 0}};
    Exchange exchange(gradients, kModel, values, place, trace);
    Bucket bucket{.gradients = gradients};
    exchange.start(bucket, nullptr,
                   {.rank = place.rank, .step = 7, .sequence = 1, .bucket = 2, .deadline = soon()});
    exchange.take_in();
    exchange.round_a(communicator);
    exchange.expect_round_b(communicator);
    exchange.round_b(communicator);
    const std::lock_guard lock(mutex);
    outcome.failures[rank] = exchange.failure();
    outcome.overflowed[rank] = exchange.overflowed();
    outcome.collectives[rank] = communicator.traffic().messages_sent / (kRanks - 1);
    if (!exchange.failure()) exchange.finish(/*commit=*/!exchange.overflowed());
  });
  return outcome;
}

struct Kind {
  int rounds;
  bool gathered;

  std::uint64_t collectives() const {
    return static_cast<std::uint64_t>(gathered ? rounds : 2 * rounds);
  }
};
constexpr Kind kKinds[] = {{1, false}, {2, false}, {1, true}, {2, true}};

std::vector<std::string> stages(const Kind& kind) {
  const auto [rounds, gathered] = kind;
  if (gathered && rounds == 1) return {"start", "encode 0", "check", "commit"};
  if (gathered) return {"start", "encode 0", "encode 1", "check", "commit"};
  if (rounds == 1) return {"start", "encode 0", "reduce 0", "check", "commit"};
  return {"start", "encode 0", "reduce 0", "encode 1", "reduce 1", "check", "commit"};
}

TEST(Exchange, StagesComeInOrderAndTheirMessagesArrive) {
  for (const Kind& kind : kKinds) {
    const Outcome outcome = exchange({.rounds = kind.rounds, .gathered = kind.gathered});
    for (std::size_t rank = 0; rank < kRanks; ++rank) {
      EXPECT_EQ(outcome.scripts[rank].calls, stages(kind));
      EXPECT_EQ(outcome.scripts[rank].result, kind.rounds == 1 ? 6 : (kind.gathered ? 6 : 18));
      EXPECT_EQ(outcome.collectives[rank], kind.collectives());
      EXPECT_FALSE(outcome.failures[rank]);
      EXPECT_FALSE(outcome.overflowed[rank]);
      EXPECT_EQ(outcome.scripts[rank].seen.back(), Presence::present) << "rank 0 has been told";
    }
  }
}

TEST(Exchange, AFailureAnywhereEndsTheComputingEverywhereAndNoCollective) {
  for (const Kind& kind : kKinds) {
    for (const std::string& stage : stages(kind)) {
      if (stage == "start" || stage == "commit") continue;
      const Outcome outcome =
          exchange({.rounds = kind.rounds, .gathered = kind.gathered, .throws_in = stage});
      for (std::size_t rank = 0; rank < kRanks; ++rank) {
        EXPECT_EQ(outcome.collectives[rank], kind.collectives()) << stage;
        EXPECT_EQ(outcome.failures[rank].has_value(), rank == 2) << stage;
        const std::vector<std::string>& calls = outcome.scripts[rank].calls;
        const std::string& last = calls[calls.size() - (rank == 2 ? 1 : 2)];
        EXPECT_EQ(last, stage) << "rank " << rank;
      }
      EXPECT_EQ(outcome.failures[2]->message.find("[rank 2, step 7, bucket 2, "), 0u)
          << outcome.failures[2]->message;
    }
  }
}

TEST(Exchange, WhatAStageFindsNonFiniteEveryRankLeavesOutOfTheNext) {
  for (const Kind& kind : kKinds) {
    const std::vector<std::string> order = stages(kind);
    for (std::size_t found = 1; order[found] != "check"; ++found) {
      const Outcome outcome = exchange(
          {.rounds = kind.rounds, .gathered = kind.gathered, .non_finite_in = order[found]});
      for (const Script& script : outcome.scripts) {
        EXPECT_EQ(script.calls.back(), "leave");
        for (std::size_t stage = 1; stage < order.size(); ++stage) {
          EXPECT_EQ(script.seen[stage - 1] == Presence::non_finite, stage > found)
              << order[found] << " found it, at " << order[stage];
        }
      }
      EXPECT_EQ(outcome.overflowed, std::vector<bool>(kRanks, true));
    }
  }
}

}  // namespace
}  // namespace lgreco
