#include "src/engine/planning.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <latch>
#include <limits>
#include <mutex>
#include <random>
#include <stdexcept>

#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

std::vector<LayerRecord> model() {
  std::vector<LayerRecord> layers;
  layers.emplace_back(LayerSpec{.name = "a", .shape = {64, 128}});
  layers.emplace_back(LayerSpec{.name = "b", .shape = {128, 64}});
  layers.emplace_back(LayerSpec{.name = "bias", .shape = {64}});
  return layers;
}

Membership membership(Place place) {
  std::vector<LayerSpec> specs;
  for (const LayerRecord& layer : model()) specs.push_back(layer.spec);
  return one_group(specs, place);
}

AggregatorOptions options(Policy policy) {
  return {.method = parse_level("low_rank:4:min_ratio=1"),
          .policy = std::move(policy),
          .timeout = std::chrono::seconds(60)};
}

/// One rank's planning without the steps around it.
class Rank {
 public:
  Rank(std::unique_ptr<Communicator> comm, AggregatorOptions settings,
       PlanMaking::Measure measure = measure_row)
      : place{comm->rank(), comm->size()},
        communicator_(std::move(comm)),
        membership_(membership(place)),
        commit_(membership_),
        layers(model()),
        planning(layers, settings, membership_, trace_, std::move(measure)),
        plan(planning.first_plan()) {}

  // Layer a has rank 1 and layer b is noise: a can do with fewer ranks.
  void collect() {
    if (!planning.collects_windows(step)) return;
    std::mt19937 generator(static_cast<unsigned>(step));
    std::normal_distribution<float> normal;
    for (LayerRecord& layer : layers) {
      if (!layer.measured_here) continue;
      layer.window.resize(layer.shape.count());
      ++layer.window_steps;
      for (std::size_t i = 0; i < layer.window.size(); ++i) {
        const bool low_rank = layer.spec.name == "a";
        layer.window[i] += low_rank ? static_cast<float>(i % layer.shape.cols) : normal(generator);
      }
    }
  }

  /// Until `last` steps were made.
  void run_to(std::uint64_t last) {
    while (step < last) {
      collect();
      ++step;
      const StepEnd end{.step = step,
                        .frame = {.step = step, .plan = plan.hash()},
                        .communicator = *communicator_,
                        .commit = commit_};
      if (auto next = planning.after_step(end, plan, stats)) plan = std::move(*next);
    }
  }

  const Place place;

 private:
  std::unique_ptr<Communicator> communicator_;
  const Membership membership_;
  CommitRound commit_;
  Trace trace_;

 public:
  std::vector<LayerRecord> layers;
  Planning planning;
  Plan plan;
  Stats stats;
  std::uint64_t step = 0;
};

TEST(Planning, CollectsTheWindowBeforeEachPlan) {
  auto layers = model();
  Trace trace;
  const Membership alone = membership(Place{});
  const Planning planning(layers, options(LGrecoPolicy{.every = 100, .start = 50, .window = 3}),
                          alone, trace);
  for (std::uint64_t step = 0; step < 400; ++step) {
    const std::uint64_t before_plan = (step + 50) % 100;  // 95 is the first step after measuring
    EXPECT_EQ(planning.collects_windows(step), before_plan >= 92 && before_plan < 95) << step;
  }
}

TEST(Planning, NeverCostsMoreThanTheReferenceAndKeepsTheBudget) {
  run_ranks(2, [](std::unique_ptr<Communicator> comm) {
    Rank rank(std::move(comm), options(LGrecoPolicy{.every = 10, .start = 10, .window = 1}));
    const Plan first = rank.plan;
    rank.run_to(9);
    EXPECT_EQ(rank.plan.hash(), first.hash());
    rank.run_to(10);
    const Plan& plan = rank.plan;
    EXPECT_LT(plan.bytes, first.bytes);
    EXPECT_LE(plan.error, plan.budget);
    EXPECT_LE(plan.lower_bound, plan.bytes);
    EXPECT_EQ(plan.version, 1u);
    EXPECT_EQ(plan.step, 10u);
    EXPECT_EQ(plan.levels[0].parameter, 2) << "the layer of rank 1 gets the least";
    EXPECT_EQ(plan.levels[2].method, Method::dense);
    EXPECT_EQ(plan.estimates[2].reason, Reason::only_candidate);
    EXPECT_EQ(rank.stats.plans, 1u);
    EXPECT_EQ(rank.stats.plan_fallbacks, 0u);
    for (const LayerRecord& layer : rank.layers) EXPECT_TRUE(layer.window.empty());
  });
}

TEST(Planning, ZeroAndUnseenLayersKeepTheReference) {
  run_ranks(2, [](std::unique_ptr<Communicator> comm) {
    Rank rank(std::move(comm), options(LGrecoPolicy{.every = 10, .start = 10, .window = 1}));
    const Plan first = rank.plan;
    rank.run_to(9);
    rank.collect();
    std::fill(rank.layers[0].window.begin(), rank.layers[0].window.end(), 0.0f);
    rank.layers[1].window.clear();  // no finite gradient was seen
    rank.layers[1].window_steps = 0;
    const auto measured = rank.layers[0].measured_here;
    for (LayerRecord& layer : rank.layers) layer.measured_here = false;
    rank.run_to(10);
    rank.layers[0].measured_here = measured;
    EXPECT_EQ(rank.plan.levels, first.levels);
    EXPECT_EQ(rank.plan.version, 0u);
    EXPECT_EQ(rank.stats.plan_fallbacks, 2u);
  });
}

TEST(Planning, StartsDenseWhenAskedTo) {
  run_ranks(1, [](std::unique_ptr<Communicator> comm) {
    AggregatorOptions settings{.method = parse_level("quantize:4"), .start = 5};
    Rank rank(std::move(comm), settings);
    for (const Level& level : rank.plan.levels) EXPECT_EQ(level.method, Method::dense);
    rank.run_to(4);
    EXPECT_EQ(rank.plan.version, 0u);
    rank.run_to(5);
    EXPECT_EQ(rank.plan.version, 1u);
    EXPECT_EQ(rank.plan.levels[0].method, Method::quantize);
  });
}

TEST(Planning, ResumesInTheMiddleOfAPlanInTheMaking) {
  const LGrecoPolicy policy{.every = 40, .start = 40, .window = 3};  // measured at 38, shared at 39
  Plan expected;
  run_ranks(2, [&](std::unique_ptr<Communicator> comm) {
    Rank rank(std::move(comm), options(policy));
    rank.run_to(40);
    if (rank.place.rank == 0) expected = rank.plan;
  });
  for (const std::uint64_t at : {30, 36, 38, 39}) {
    run_ranks(2, [&](std::unique_ptr<Communicator> comm) {
      Rank rank(std::move(comm), options(policy));
      rank.run_to(at);
      std::vector<Window> windows;
      for (std::size_t i = 0; i < rank.layers.size(); ++i) {
        windows.push_back(rank.planning.window(i, 1));
      }
      rank.planning.resume(at, true, rank.planning.critical_layers());
      for (std::size_t i = 0; i < rank.layers.size(); ++i) {
        rank.layers[i].window = windows[i].sum;
        rank.layers[i].window_steps = windows[i].steps;
      }
      rank.run_to(40);
      EXPECT_EQ(rank.plan.hash(), expected.hash()) << "resumed at " << at;
      EXPECT_EQ(rank.plan.error, expected.error) << "resumed at " << at;
    });
  }
}

// -- A planner that fails, on one rank of two: both keep the old plan, and the next one works.

class FailingPlanner : public testing::Test {
 protected:
  static constexpr LGrecoPolicy policy() { return {.every = 40, .start = 40, .window = 3}; }

  /// Runs to the second plan. `fails` replaces the measurement on rank 1 for the first; `heal` is
  /// called between the two.
  static void expect_old_plan_then_new(
      const PlanMaking::Measure& fails, std::chrono::milliseconds timeout,
      const std::function<void()>& heal = [] {}) {
    run_ranks(2, [&](std::unique_ptr<Communicator> comm) {
      const bool broken = comm->rank() == 1;
      AggregatorOptions settings = options(policy());
      settings.timeout = timeout;
      std::atomic<bool> heals{false};
      Rank rank(std::move(comm), settings,
                [&](const Window& window, const MatrixShape& shape, const Candidates& candidates,
                    int ranks) {
                  if (broken && !heals) return fails(window, shape, candidates, ranks);
                  return measure_row(window, shape, candidates, ranks);
                });
      const Plan first = rank.plan;
      rank.run_to(60);
      EXPECT_EQ(rank.plan.hash(), first.hash());
      EXPECT_EQ(rank.plan.version, 0u);
      EXPECT_EQ(rank.stats.plans, 0u);
      EXPECT_EQ(rank.stats.plan_failures, 1u);
      heals = true;
      if (broken) heal();
      rank.run_to(80);
      EXPECT_EQ(rank.stats.plans, 1u);
      EXPECT_EQ(rank.stats.plan_failures, 1u);
      EXPECT_NE(rank.plan.hash(), first.hash());
    });
  }
};

TEST_F(FailingPlanner, Throws) {
  expect_old_plan_then_new(
      [](auto&&...) -> CostRow { throw std::runtime_error("broken on purpose"); },
      std::chrono::seconds(60));
}

TEST_F(FailingPlanner, ThrowsWhatIsNoException) {
  expect_old_plan_then_new([](auto&&...) -> CostRow { throw 1; }, std::chrono::seconds(60));
}

TEST_F(FailingPlanner, IsOutOfMemory) {
  expect_old_plan_then_new([](auto&&...) -> CostRow { throw std::bad_alloc(); },
                           std::chrono::seconds(60));
}

// Patience is a quarter of the timeout: the step waits so long, once, and training goes on.
TEST_F(FailingPlanner, IsLate) {
  std::latch released(1);
  expect_old_plan_then_new(
      [&](const Window&, const MatrixShape&, const Candidates& candidates, int) {
        released.wait();
        return CostRow{1, std::vector<float>(candidates.size(), 1)};
      },
      std::chrono::seconds(8),
      [&] {
        released.count_down();
        std::this_thread::sleep_for(std::chrono::seconds(1));  // the thread ends meanwhile
      });
}

TEST_F(FailingPlanner, MeasuresAnotherNumberOfCandidates) {
  expect_old_plan_then_new(
      [](auto&&...) {
        return CostRow{1, std::vector<float>(1000, 1)};
      },
      std::chrono::seconds(60));
}

TEST_F(FailingPlanner, SendsImpossibleRows) {
  expect_old_plan_then_new(
      [](const Window&, const MatrixShape&, const Candidates& candidates, int) {
        return CostRow{1, std::vector<float>(candidates.size(), -1)};
      },
      std::chrono::seconds(60));
}

// It never ends while the run lasts. The second plan is dropped without waiting.
TEST(Planning, GoesOnWithAPlannerThatHangs) {
  std::latch end_of_run(2);
  std::latch released(1);
  run_ranks(2, [&](std::unique_ptr<Communicator> comm) {
    const bool broken = comm->rank() == 1;
    AggregatorOptions settings = options(LGrecoPolicy{.every = 40, .start = 40, .window = 3});
    settings.timeout = std::chrono::seconds(8);
    Rank rank(std::move(comm), settings,
              [&](const Window& window, const MatrixShape& shape, const Candidates& candidates,
                  int ranks) {
                if (broken) released.wait();
                return measure_row(window, shape, candidates, ranks);
              });
    const Plan first = rank.plan;
    rank.run_to(90);
    EXPECT_EQ(rank.plan.hash(), first.hash());
    EXPECT_EQ(rank.stats.plan_failures, 2u);
    end_of_run.count_down();
    if (broken) {
      end_of_run.wait();
      released.count_down();
    }
  });
}

// -- Accordion.

AccordionPolicy accordion() {
  return {.low = parse_level("low_rank:4:min_ratio=1"),
          .high = parse_level("low_rank:1:min_ratio=1"),
          .every = 10};
}

/// Adds to each layer's interval so that its norm is `norm`.
void set_norm(Rank& rank, float norm) {
  for (LayerRecord& layer : rank.layers) {
    layer.interval_sum.assign(layer.shape.count(), 0.0f);
    layer.interval_sum[0] = norm;
  }
}

TEST(Planning, AccordionMovesBetweenItsLevels) {
  run_ranks(2, [](std::unique_ptr<Communicator> comm) {
    Rank rank(std::move(comm), options(accordion()));
    const auto rank_of_a = [&] { return rank.plan.levels[0].parameter; };
    EXPECT_EQ(rank_of_a(), 4) << "all layers start in a critical regime";
    set_norm(rank, 8);
    rank.run_to(10);
    EXPECT_EQ(rank_of_a(), 4) << "nothing to compare with";
    set_norm(rank, 7);
    rank.run_to(20);
    EXPECT_EQ(rank_of_a(), 1);
    EXPECT_EQ(rank.plan.step, 20u);
    EXPECT_FALSE(rank.planning.in_critical_regime());
    EXPECT_EQ(rank.plan.levels[2].method, Method::dense);
    set_norm(rank, 2);
    rank.run_to(30);
    EXPECT_EQ(rank_of_a(), 4);
    set_norm(rank, 2);
    rank.run_to(40);
    EXPECT_EQ(rank_of_a(), 1);
    rank.plan = *rank.planning.on_learning_rate_decay(rank.step, rank.plan);
    EXPECT_EQ(rank_of_a(), 4) << "the learning rate has decayed";
    EXPECT_TRUE(rank.planning.in_critical_regime());
    EXPECT_FALSE(rank.planning.on_learning_rate_decay(rank.step, rank.plan));
    set_norm(rank, 2);
    rank.run_to(50);
    EXPECT_EQ(rank_of_a(), 1);
    EXPECT_EQ(rank.plan.version, 5u);
  });
}

TEST(Planning, AccordionSetsTheReferenceOfWhatFollows) {
  run_ranks(2, [](std::unique_ptr<Communicator> comm) {
    AccordionPolicy policy = accordion();
    policy.then = LGrecoPolicy{.every = 10, .start = 25, .window = 1};
    Rank rank(std::move(comm), options(policy));
    const Plan low = rank.plan;
    set_norm(rank, 8);
    rank.run_to(10);
    set_norm(rank, 8);
    rank.run_to(20);
    const Plan high = rank.plan;
    EXPECT_LT(high.bytes, low.bytes);
    rank.run_to(25);
    EXPECT_EQ(rank.stats.plans, 1u);
    EXPECT_LE(rank.plan.bytes, high.bytes) << "planned under the error of the high levels";
    EXPECT_LE(rank.plan.error, rank.plan.budget);
    set_norm(rank, 80);
    rank.run_to(30);
    EXPECT_EQ(rank.plan.levels, low.levels) << "a critical regime is served at once";
    set_norm(rank, 79);
    rank.run_to(35);
    EXPECT_LT(rank.plan.bytes, low.bytes) << "planned under the error of the low levels";
    EXPECT_EQ(rank.plan.estimates[0].reference.bytes, 4 * (64 + 128) * 4);
  });
}

// The plan is that under the references of its step, whether the run was interrupted or not.
TEST(Planning, AccordionMayDecideWhileAPlanIsMade) {
  AccordionPolicy policy = accordion();
  policy.every = 20;
  policy.then = LGrecoPolicy{.every = 80, .start = 80, .window = 1};  // shared at 78
  const auto run_to_decision = [&](Rank& rank) {
    for (const std::uint64_t step : {20, 40, 60}) {
      set_norm(rank, 8);
      rank.run_to(step);
    }
    rank.run_to(79);
    set_norm(rank, 80);  // at 80 all layers turn out to be critical
  };
  Plan expected;
  run_ranks(2, [&](std::unique_ptr<Communicator> comm) {
    Rank rank(std::move(comm), options(policy));
    run_to_decision(rank);
    EXPECT_EQ(rank.plan.levels[0].parameter, 1);
    rank.run_to(80);
    EXPECT_EQ(rank.stats.plans, 1u);
    EXPECT_EQ(rank.plan.estimates[0].reference.bytes, 4 * (64 + 128) * 4);
    if (rank.place.rank == 0) expected = rank.plan;
  });
  run_ranks(2, [&](std::unique_ptr<Communicator> comm) {
    Rank rank(std::move(comm), options(policy));
    run_to_decision(rank);
    std::vector<Window> windows;
    for (std::size_t i = 0; i < rank.layers.size(); ++i) {
      windows.push_back(rank.planning.window(i, 1));
    }
    rank.planning.resume(79, rank.planning.in_critical_regime(), rank.planning.critical_layers());
    for (std::size_t i = 0; i < rank.layers.size(); ++i) {
      rank.layers[i].window = windows[i].sum;
      rank.layers[i].window_steps = windows[i].steps;
    }
    rank.run_to(80);
    EXPECT_EQ(rank.plan.hash(), expected.hash());
    EXPECT_EQ(rank.plan.budget, expected.budget);
  });
}

TEST(Planning, RefusesWrongSettings) {
  const auto refuses = [](Policy policy) {
    auto layers = model();
    Trace trace;
    const Membership alone = membership(Place{});
    EXPECT_THROW(Planning(layers, options(std::move(policy)), alone, trace), ConfigError);
  };
  refuses(LGrecoPolicy{.every = 0});
  refuses(LGrecoPolicy{.window = 0});
  refuses(LGrecoPolicy{.every = 5, .window = 6});
  refuses(LGrecoPolicy{.alpha = std::nan("")});
  refuses(LGrecoPolicy{.network = Network{}});
  refuses(AccordionPolicy{.every = 0});
  refuses(AccordionPolicy{.threshold = 0});
  refuses(AccordionPolicy{.then = LGrecoPolicy{.every = 0}});
  FixedPolicy fixed;
  fixed.levels.emplace("c", Level{});
  refuses(fixed);
}

}  // namespace
}  // namespace lgreco
