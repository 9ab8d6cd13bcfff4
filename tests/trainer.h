// A small model with layers of every kind, synthetic gradients of it, and one rank that trains it.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "lgreco/aggregator.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {

inline const std::vector<LayerSpec> kModel = {
    {.name = "conv", .shape = {32, 16, 3, 3}}, {.name = "bias", .shape = {32}},
    {.name = "wide", .shape = {20, 700}},      {.name = "long", .shape = {9000}},
    {.name = "head", .shape = {100, 64}},      {.name = "scalar", .shape = {}}};

using Values = std::vector<std::vector<float>>;  // by layer

inline Values gradients(int rank, std::uint64_t step) {
  std::mt19937 generator(static_cast<unsigned>(1000 * step + static_cast<std::uint64_t>(rank)));
  std::normal_distribution<float> normal;
  Values values;
  for (const LayerSpec& layer : kModel) {
    std::vector<float>& gradient = values.emplace_back(layer.count());
    for (float& value : gradient) value = normal(generator);
  }
  return values;
}

inline AggregatorOptions options(const std::string& method) {
  return {.method = parse_level(method)};
}

/// One rank: an aggregator and the exchange of whole steps in one bucket or several.
class Trainer {
 public:
  Trainer(Communicators lanes, AggregatorOptions options)
      : rank(lanes[0]->rank()),
        size(lanes[0]->size()),
        aggregator(kModel, std::move(options), std::move(lanes)) {}

  void average(Values& values, std::size_t bucket_length = kModel.size()) {
    std::vector<std::future<void>> results;
    for (std::size_t end = values.size(); end > 0;) {  // from the back, as DDP does
      const std::size_t begin = end > bucket_length ? end - bucket_length : 0;
      Bucket bucket{.gradients = {}, .last = begin == 0};
      for (std::size_t i = begin; i < end; ++i) {
        bucket.gradients.push_back({.layer = i, .data = values[i].data()});
      }
      auto result = std::make_shared<std::promise<void>>();
      results.push_back(result->get_future());
      aggregator.submit(bucket, [result](const std::exception_ptr& failure) {
        failure ? result->set_exception(failure) : result->set_value();
      });
      end = begin;
    }
    for (auto& result : results) result.wait();
    for (auto& result : results) result.get();
  }

  int rank, size;
  Aggregator aggregator;
};

}  // namespace lgreco
