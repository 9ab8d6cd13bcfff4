// Averages made-up gradients with a method of one's own, over ranks that are threads, and checks
// what error feedback promises: nothing is lost, it only comes later.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "lgreco/aggregator.h"
#include "lgreco/codec.h"
#include "random_k.h"

namespace {

using Tensors = std::vector<std::vector<float>>;

constexpr int kRanks = 3;
constexpr std::uint64_t kSteps = 40;

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

std::vector<lgreco::LayerSpec> layers() {
  return {{.name = "embedding", .shape = {400, 64}},
          {.name = "mask", .shape = {5000}},
          {.name = "bias", .shape = {10}}};
}

/// What a rank adds to step `step`.
Tensors gradients(int rank, std::uint64_t step) {
  std::mt19937 generator(static_cast<unsigned>(step * kRanks + static_cast<std::uint64_t>(rank)));
  std::normal_distribution<float> normal;
  Tensors tensors;
  for (const lgreco::LayerSpec& layer : layers()) {
    std::vector<float>& tensor = tensors.emplace_back(layer.count());
    for (float& value : tensor) value = normal(generator);
  }
  return tensors;
}

Tensors zeros() {
  Tensors tensors;
  for (const lgreco::LayerSpec& layer : layers()) tensors.emplace_back(layer.count(), 0.0f);
  return tensors;
}

/// A residual of which nothing is left is empty.
void add(Tensors& sum, const Tensors& tensors, float factor) {
  for (std::size_t layer = 0; layer < tensors.size(); ++layer) {
    for (std::size_t i = 0; i < tensors[layer].size(); ++i) {
      sum[layer][i] += factor * tensors[layer][i];
    }
  }
}

struct Result {
  Tensors applied = zeros();
  Tensors residual;
  lgreco::Stats stats;
  lgreco::Plan plan;
};

/// Everything one rank does.
Result train(std::unique_ptr<lgreco::Communicator> communicator) {
  std::vector<std::unique_ptr<lgreco::Communicator>> lanes;
  lanes.push_back(std::move(communicator));
  lgreco::Aggregator aggregator(layers(),
                                {.method = lgreco::parse_level("random_k:0.1"),
                                 .policy = lgreco::LGrecoPolicy{.every = 20, .start = 20}},
                                std::move(lanes));
  Result result;
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    Tensors tensors = gradients(aggregator.rank(), step);
    lgreco::Bucket bucket;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      bucket.gradients.push_back({.layer = i, .data = tensors[i].data()});
    }
    aggregator.exchange(bucket);
    add(result.applied, tensors, 1);
  }
  for (lgreco::LayerState& layer : aggregator.state().layers) {
    result.residual.push_back(std::move(layer.residual));
  }
  result.stats = aggregator.stats();
  result.plan = aggregator.plan();
  return result;
}

std::vector<Result> train_on_threads() {
  auto communicators = lgreco::thread_communicators(kRanks);
  std::vector<Result> results(kRanks);
  std::vector<std::exception_ptr> errors(kRanks);
  std::vector<std::thread> ranks;
  for (std::size_t rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      try {
        results[rank] = train(std::move(communicators[rank]));
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return results;
}

/// The sum of the averages that were applied, and what the ranks still hold back, is the sum of the
/// true averages.
void check_that_nothing_is_lost(const std::vector<Result>& results) {
  Tensors left = zeros();
  for (int rank = 0; rank < kRanks; ++rank) {
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      add(left, gradients(rank, step), 1.0f / kRanks);
    }
    add(left, results[static_cast<std::size_t>(rank)].residual, -1.0f / kRanks);
  }
  add(left, results[0].applied, -1);
  for (const std::vector<float>& tensor : left) {
    for (const float value : tensor) require(std::abs(value) < 1e-3f, "a gradient was lost");
  }
}

/// A single array, without ranks.
void check_codec() {
  const lgreco::Level level = lgreco::parse_level("random_k:0.25");
  const lgreco::MatrixShape shape{40, 30};
  const lgreco::RandomKey key{.seed = 1, .step = 2, .layer = 3};
  std::vector<float> values(shape.count()), decoded;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1 + static_cast<float>(i);
  const std::vector<std::byte> payload = lgreco::encode(values, shape, level, key);
  require(payload.size() == 4 * shape.count() / 4, "a quarter of the values is sent");
  require(lgreco::decode(payload, shape, level, key, decoded).is_ok(), "it decodes");
  std::size_t sent = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    require(decoded[i] == 0 || decoded[i] == values[i], "values are sent as they are");
    sent += decoded[i] != 0;
  }
  require(sent == shape.count() / 4, "each position is sent once");
}

}  // namespace

int main() {
  try {
    register_random_k();
    check_codec();
    const std::vector<Result> results = train_on_threads();
    for (const Result& result : results) {
      require(result.applied == results[0].applied, "ranks differ");
    }
    check_that_nothing_is_lost(results);
    const lgreco::Plan& plan = results[0].plan;
    for (std::size_t i = 0; i < plan.layers.size(); ++i) {
      std::printf("%-10s %s\n", plan.layers[i].c_str(), lgreco::to_string(plan.levels[i]).c_str());
    }
    std::printf("bytes sent %llu of %llu\n",
                static_cast<unsigned long long>(results[0].stats.bytes_sent),
                static_cast<unsigned long long>(results[0].stats.dense_bytes));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "custom_compressor: %s\n", error.what());
    return 1;
  }
}
