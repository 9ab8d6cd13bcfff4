// A steady step takes no memory from the heap, on any thread. A binary of its own, since it
// replaces operator new.

#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>
#include <tuple>

#include "lgreco/aggregator.h"
#include "tests/counting_new.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

class AllocationTest : public testing::TestWithParam<std::tuple<const char*, DType, DType>> {};
INSTANTIATE_TEST_SUITE_P(MethodsGradientsAndResiduals, AllocationTest,
                         testing::Combine(testing::Values("dense", "cast:bf16", "quantize:4",
                                                          "topk:0.01", "low_rank:4:min_ratio=1",
                                                          "low_rank:4:min_ratio=1:factors=bf16",
                                                          "low_rank:4:min_ratio=1:factors=4",
                                                          "quantize:2+4", "topk:0.01+0.03"),
                                          testing::Values(DType::f32, DType::bf16),
                                          testing::Values(DType::f32, DType::bf16)),
                         [](const auto& info) {
                           std::string name = std::get<0>(info.param);
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name + "_of_" + std::string(name_of(std::get<1>(info.param))) +
                                  "_kept_in_" + std::string(name_of(std::get<2>(info.param)));
                         });

TEST_P(AllocationTest, SteadyStepTakesNoMemory) {
  constexpr int kSteps = 20, kBuckets = 3;
  const Level level = parse_level(std::get<0>(GetParam()));
  const DType dtype = std::get<1>(GetParam()), residual = std::get<2>(GetParam());
  std::atomic<std::size_t> in_steady_steps = 0;
  run_ranks_on_lanes(2, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    std::vector<LayerSpec> model;
    std::vector<std::vector<float>> gradients;
    std::vector<Bucket> buckets(kBuckets);
    for (std::size_t i = 0; i < kBuckets; ++i) {
      model.push_back({.name = std::to_string(i), .shape = {64, 128}, .dtype = dtype});
      gradients.emplace_back(64 * 128, 0.0f);
      buckets[i] = {.gradients = {{.layer = i, .data = gradients[i].data()}},
                    .last = i + 1 == kBuckets};
    }
    Aggregator aggregator(model, {.method = level, .residual = residual, .threads = 2},
                          std::move(lanes));
    std::counting_semaphore<> done(0);
    for (int step = 0; step < kSteps; ++step) {
      const std::size_t before = allocations;
      for (auto& gradient : gradients) {
        for (std::size_t i = 0; i < gradient.size(); ++i) {
          gradient[i] = static_cast<float>((i * 7 + static_cast<std::size_t>(rank + step)) % 13);
        }
      }
      for (const Bucket& bucket : buckets) {
        aggregator.submit(bucket, [&done](const std::exception_ptr&) { done.release(); });
      }
      for (int i = 0; i < kBuckets; ++i) done.acquire();
      if (step >= kSteps / 2) in_steady_steps += allocations - before;
    }
  });
  EXPECT_EQ(in_steady_steps, 0u);
}

}  // namespace
}  // namespace lgreco
