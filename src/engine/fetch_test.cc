// Gradients that are not at hand when their bucket is: fetched on the encoder's thread, in the
// transaction of the step.

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "lgreco/aggregator.h"
#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

using std::chrono::milliseconds;

std::vector<LayerSpec> model() { return {{.name = "weight", .shape = {3}}}; }

Bucket bucket_that(std::function<void(std::span<Gradient>, Deadline)> fetch) {
  return {.gradients = {{.layer = 0}}, .fetch = std::move(fetch)};
}

TEST(Fetch, SaysWhereGradientsAreAndWhichAreAbsent) {
  run_ranks_on_lanes(2, 2, [](Communicators lanes) {
    Aggregator aggregator(model(), {}, std::move(lanes));
    const std::thread::id caller = std::this_thread::get_id();
    std::vector<float> values(3, 4.0f);
    const bool is_present = aggregator.rank() == 0;
    aggregator.exchange(bucket_that([&](std::span<Gradient> gradients, Deadline) {
      EXPECT_NE(std::this_thread::get_id(), caller);
      gradients[0].data = values.data();
      gradients[0].present = is_present;
    }));
    EXPECT_EQ(values, std::vector<float>(3, 2.0f));
  });
}

TEST(Fetch, ThatFailsCostsTheStepOnAllRanksAndNoMore) {
  run_ranks_on_lanes(3, 2, [](Communicators lanes) {
    Aggregator aggregator(model(), {}, std::move(lanes));
    std::vector<float> values(3, 1.0f);
    const auto fetch = [&](std::span<Gradient> gradients, Deadline) {
      gradients[0].data = values.data();
      if (aggregator.rank() == 1) throw PeerError("device 7 is stuck");
    };
    try {
      aggregator.exchange(bucket_that(fetch));
      ADD_FAILURE() << "no error on rank " << aggregator.rank();
    } catch (const PeerError& error) {
      EXPECT_EQ(std::string(error.what()),
                "[rank 1, step 0, bucket 0, fetching the gradients] device 7 is stuck");
    }
    aggregator.exchange({.gradients = {{.layer = 0, .data = values.data()}}});
    EXPECT_EQ(aggregator.stats().steps, 1u);
    EXPECT_EQ(aggregator.stats().failed_steps, 1u);
  });
}

TEST(Fetch, GivesUpInTimeToTellTheOthers) {
  run_ranks_on_lanes(2, 2, [](Communicators lanes) {
    Aggregator aggregator(model(), {.timeout = milliseconds(500)}, std::move(lanes));
    std::vector<float> values(3, 1.0f);
    const auto fetch = [&](std::span<Gradient> gradients, Deadline deadline) {
      gradients[0].data = values.data();
      if (aggregator.rank() == 0) return;
      std::this_thread::sleep_until(deadline);
      throw PeerError("device 7 is stuck");
    };
    try {
      aggregator.exchange(bucket_that(fetch));
      ADD_FAILURE() << "no error on rank " << aggregator.rank();
    } catch (const PeerError& error) {
      EXPECT_NE(std::string(error.what()).find("device 7"), std::string::npos) << error.what();
    }
  });
}

}  // namespace
}  // namespace lgreco
