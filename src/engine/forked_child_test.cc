// A process forks in every phase of a step. The child can use nothing of its copy, and drops it;
// the parent goes on as if nothing had happened.

#include <gtest/gtest.h>

#include <condition_variable>
#include <latch>
#include <mutex>
#include <optional>

#include "lgreco/aggregator.h"
#include "lgreco/algorithm.h"
#include "src/base/random.h"
#include "tests/forked_child.h"
#include "tests/frame_of.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

constexpr std::uint64_t kSteps = 6;

const std::vector<LayerSpec> kModel = {{.name = "matrix", .shape = {96, 128}},
                                       {.name = "bias", .shape = {96}},
                                       {.name = "head", .shape = {64, 80}}};

using Values = std::vector<std::vector<float>>;  // by layer

Values gradients(int rank, std::uint64_t step) {
  Values values;
  for (std::size_t layer = 0; layer < kModel.size(); ++layer) {
    const RandomStream stream = stream_of({static_cast<std::uint64_t>(rank), step, layer});
    std::vector<float>& gradient = values.emplace_back(kModel[layer].count());
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      gradient[i] = uniform(stream, static_cast<std::uint32_t>(i)) - 0.5f;
    }
  }
  return values;
}

/// Low rank has all rounds. Plans are made after the third step.
AggregatorOptions options() {
  return {.method = parse_level("low_rank:2"),
          .policy = LGrecoPolicy{.every = 3, .start = 3, .window = 1},
          .threads = 2};
}

/// Holds a thread up where it passes, once.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    reached_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  bool wait_until_reached() {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, soon(), [this] { return reached_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
  bool open_ = false;
};

/// Passes the gate before it sends the first message of a phase and step.
class GatedCommunicator final : public Communicator {
 public:
  GatedCommunicator(std::unique_ptr<Communicator> inner, Phase phase, std::uint64_t step,
                    Gate& gate)
      : inner_(std::move(inner)), phase_(phase), step_(step), gate_(gate) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  void abort() override { inner_->abort(); }
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    look_at(send[static_cast<std::size_t>((rank() + 1) % size())]);
    inner_->all_to_all(send, receive, deadline);
  }
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    look_at(send);
    inner_->all_gather(send, receive, deadline);
  }

 private:
  void look_at(std::span<const std::byte> message) {
    const auto frame = frame_of(message);
    if (!frame || frame->phase != phase_) return;
    // The frames of commits name no step; there is one in each step before the first plan.
    if (phase_ == Phase::commit ? commits_++ == step_ : frame->step == step_) gate_.pass();
  }

  std::unique_ptr<Communicator> inner_;
  Phase phase_;
  std::uint64_t step_;
  std::uint64_t commits_ = 0;
  Gate& gate_;
};

void use_and_drop(std::optional<Aggregator>& aggregator) {
  std::vector<float> values(kModel[1].count());
  const Bucket bucket{.gradients = {{.layer = 1, .data = values.data()}}};
  Aggregator& copy = *aggregator;
  require_refused("submit", [&] { copy.submit(bucket, [](const std::exception_ptr&) {}); });
  require_refused("exchange", [&] { copy.exchange(bucket); });
  require_refused("set_grad_scale", [&] { copy.set_grad_scale(2); });
  require_refused("on_learning_rate_change", [&] { copy.on_learning_rate_change(2, 1); });
  require_refused("rank", [&] { copy.rank(); });
  require_refused("size", [&] { copy.size(); });
  require_refused("layers", [&] { copy.layers(); });
  require_refused("memory", [&] { copy.memory(); });
  require_refused("plan", [&] { copy.plan(); });
  require_refused("in_critical_regime", [&] { copy.in_critical_regime(); });
  require_refused("latest", [&] { copy.latest(); });
  require_refused("stats", [&] { copy.stats(); });
  require_refused("state", [&] { copy.state(); });
  require_refused("load_state", [&] { copy.load_state({}); });
  require_refused("refuse_state", [&] { copy.refuse_state("none"); });
  require_refused("start_trace", [&] { copy.start_trace(); });
  require_refused("stop_trace", [&] { copy.stop_trace(); });
  copy.abandon("no more buckets");
  aggregator.reset();
}

/// Buckets of one layer each, from the back. Returns what `done` will be counted down by.
void submit(Aggregator& aggregator, Values& values, std::latch& done) {
  for (std::size_t layer = kModel.size(); layer-- > 0;) {
    const Bucket bucket{.gradients = {{.layer = layer, .data = values[layer].data()}},
                        .last = layer == 0};
    aggregator.submit(bucket, [&done](const std::exception_ptr& failure) {
      EXPECT_FALSE(failure);
      done.count_down();
    });
  }
}

/// What rank 0 gets in all steps. `fork_in(step, aggregator)` runs there, after the step's buckets
/// were handed over.
template <typename Wrap, typename ForkIn>
std::vector<Values> train(int ranks, int lanes, const Wrap& wrap, const ForkIn& fork_in) {
  std::vector<Values> results;
  run_ranks_on_lanes(ranks, lanes, [&](Communicators communicators) {
    const int rank = communicators[0]->rank();
    if (rank == 0) wrap(communicators);
    std::optional<Aggregator> aggregator(std::in_place, kModel, options(),
                                         std::move(communicators));
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      Values values = gradients(rank, step);
      std::latch done(static_cast<std::ptrdiff_t>(kModel.size()));
      submit(*aggregator, values, done);
      if (rank == 0) fork_in(step, aggregator);
      done.wait();
      if (rank == 0) results.push_back(std::move(values));
    }
  });
  return results;
}

std::vector<Values> undisturbed(int ranks, int lanes) {
  return train(
      ranks, lanes, [](Communicators&) {}, [](std::uint64_t, std::optional<Aggregator>&) {});
}

struct Case {
  Phase phase;
  int ranks;
  int lanes;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << name_of(c.phase) << ", " << c.ranks << " ranks, " << c.lanes << " lanes";
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (Phase phase : {Phase::scatter_a, Phase::gather_a, Phase::scatter_b, Phase::gather_b,
                      Phase::commit, Phase::planning}) {
    for (int ranks : {2, 3}) {
      const bool scatters = phase == Phase::scatter_a || phase == Phase::scatter_b;
      if (scatters && algorithm_for(ranks) == Algorithm::gathered) continue;
      for (int lanes : {1, 2}) cases.push_back({phase, ranks, lanes});
    }
  }
  return cases;
}

class ForkedChildTest : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Phases, ForkedChildTest, testing::ValuesIn(cases()));

TEST_P(ForkedChildTest, LeavesTheParentAlone) {
  const auto [phase, ranks, lanes] = GetParam();
  // A plan that takes effect at step 3 is made between two steps, when 3 have been committed.
  const std::uint64_t step = phase == Phase::planning ? 3 : 2;
  Gate gate;
  bool was_forked = false;
  const auto results = train(
      ranks, lanes,
      [&, phase = phase](Communicators& communicators) {
        for (auto& lane : communicators) {
          lane = std::make_unique<GatedCommunicator>(std::move(lane), phase, step, gate);
        }
      },
      [&](std::uint64_t submitted, std::optional<Aggregator>& aggregator) {
        if (submitted != 2) return;
        was_forked = gate.wait_until_reached();
        run_in_child([&] { use_and_drop(aggregator); });
        gate.open();
      });
  EXPECT_TRUE(was_forked) << "the phase did not come";
  EXPECT_EQ(results, undisturbed(ranks, lanes));
}

// The encoder and the planner send nothing that could be held up: fork again and again.
TEST(ForkedChild, LeavesTheParentAloneAtAnyMoment) {
  const auto results = train(
      2, 2, [](Communicators&) {},
      [](std::uint64_t, std::optional<Aggregator>& aggregator) {
        for (int fork = 0; fork < 4; ++fork) run_in_child([&] { use_and_drop(aggregator); });
      });
  EXPECT_EQ(results, undisturbed(2, 2));
}

TEST(ForkedChild, MayDropAnAggregatorInTheMiddleOfAStep) {
  run_ranks(1, [](std::unique_ptr<Communicator> communicator) {
    Communicators lanes;
    lanes.push_back(std::move(communicator));
    std::optional<Aggregator> aggregator(std::in_place, kModel, options(), std::move(lanes));
    Values values = gradients(0, 0);
    std::latch done(2);
    const auto count_down = [&done](const std::exception_ptr& failure) {
      EXPECT_FALSE(failure);
      done.count_down();
    };
    aggregator->submit({.gradients = {{.layer = 0, .data = values[0].data()}}, .last = false},
                       count_down);
    run_in_child([&] { use_and_drop(aggregator); });
    aggregator->submit({.gradients = {{.layer = 1, .data = values[1].data()}}}, count_down);
    done.wait();
    run_in_child([&] { use_and_drop(aggregator); });
    EXPECT_EQ(aggregator->stats().steps, 1u);
  });
}

// What a child makes itself is its own.
TEST(ForkedChild, MayMakeItsOwn) {
  run_in_child([] {
    run_ranks(2, [](std::unique_ptr<Communicator> communicator) {
      Communicators lanes;
      lanes.push_back(std::move(communicator));
      Aggregator aggregator(kModel, {}, std::move(lanes));
      if (aggregator.stats().steps != 0) ::_exit(3);
    });
  });
}

}  // namespace
}  // namespace lgreco
