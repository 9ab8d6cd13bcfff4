// What is zero on every rank stays zero in the averages: padding rows, pruned weights, classes
// nobody sees.

#include <gtest/gtest.h>

#include <latch>
#include <random>

#include "lgreco/aggregator.h"
#include "lgreco/compressor.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

const std::vector<LayerSpec> kModel = {{.name = "embedding", .shape = {200, 32}},
                                       {.name = "pruned", .shape = {64, 90}},
                                       {.name = "long", .shape = {9000}}};
constexpr int kRanks = 3;

bool is_zero(std::size_t layer, std::size_t i) {
  return layer == 0 ? i / 32 % 4 == 0 : i * 7 % 10 < 5;
}

std::vector<std::vector<float>> gradients(int rank, unsigned step) {
  std::mt19937 generator(100 * step + static_cast<unsigned>(rank));
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> values;
  for (std::size_t layer = 0; layer < kModel.size(); ++layer) {
    auto& gradient = values.emplace_back(kModel[layer].count());
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const float value = normal(generator) + 0.3f;
      gradient[i] = is_zero(layer, i) ? 0.0f : value;
    }
  }
  return values;
}

void average(Aggregator& aggregator, std::vector<std::vector<float>>& values) {
  std::latch done(1);
  std::exception_ptr failure;
  Bucket bucket{.gradients = {}, .last = true};
  for (std::size_t i = 0; i < values.size(); ++i) {
    bucket.gradients.push_back({.layer = i, .data = values[i].data()});
  }
  aggregator.submit(bucket, [&](const std::exception_ptr& error) {
    failure = error;
    done.count_down();
  });
  done.wait();
  if (failure) std::rethrow_exception(failure);
}

std::vector<std::string> coded_levels() {
  std::vector<std::string> levels;
  for (const MethodRow& row : method_table()) {
    if (row.coded) levels.emplace_back(row.example);
  }
  for (const char* more : {"quantize:1", "quantize:2", "quantize:2:rounding=stochastic",
                           "quantize:3:bucket=64", "quantize:8", "topk:0.3"}) {
    levels.emplace_back(more);
  }
  return levels;
}

class ZerosTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Levels, ZerosTest, testing::ValuesIn(coded_levels()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name;
                         });

// The owner's second encoding and what it keeps of it included.
TEST_P(ZerosTest, StayZeroInTheAveragesAndInTheResiduals) {
  run_ranks_on_lanes(kRanks, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    Aggregator aggregator(kModel, {.method = parse_level(GetParam())}, std::move(lanes));
    for (unsigned step = 0; step < 20; ++step) {
      auto values = gradients(rank, step);
      average(aggregator, values);
      for (std::size_t layer = 0; layer < kModel.size(); ++layer) {
        for (std::size_t i = 0; i < values[layer].size(); ++i) {
          if (!is_zero(layer, i)) continue;
          ASSERT_EQ(values[layer][i], 0) << kModel[layer].name << "[" << i << "], step " << step;
        }
      }
    }
    const AggregatorState state = aggregator.state();
    for (std::size_t layer = 0; layer < kModel.size(); ++layer) {
      const std::vector<float>& residual = state.layers[layer].residual;
      for (std::size_t i = 0; i < residual.size(); ++i) {
        if (!is_zero(layer, i)) continue;
        ASSERT_EQ(residual[i], 0) << kModel[layer].name << "[" << i << "]";
      }
    }
  });
}

}  // namespace
}  // namespace lgreco
