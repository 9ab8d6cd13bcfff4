// What a pass sends over any communicator: 2 (N - 1) / N of the payload of exactly the layers that
// are in it, and the frames.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lgreco/aggregator.h"

namespace lgreco {

/// Sent since construction, summed over the ranks.
struct Sent {
  std::uint64_t bytes = 0, dense = 0, messages = 0;
};

/// Collective.
inline Sent sent_by_all(const Aggregator& aggregator, Communicator& beside, Deadline deadline) {
  const Stats stats = aggregator.stats();
  std::vector<Sent> all(static_cast<std::size_t>(beside.size()));
  all[static_cast<std::size_t>(beside.rank())] = {stats.bytes_sent, stats.dense_bytes,
                                                  stats.messages_sent};
  std::vector<std::span<std::byte>> slots;
  for (Sent& sent : all) slots.push_back(std::as_writable_bytes(std::span(&sent, 1)));
  beside.all_gather(slots[static_cast<std::size_t>(beside.rank())], slots, deadline);
  Sent sum;
  for (const Sent& sent : all) {
    sum.bytes += sent.bytes;
    sum.dense += sent.dense;
    sum.messages += sent.messages;
  }
  return sum;
}

/// Collective. `beside` joins the ranks of `lanes`.
inline void check_law_of_bytes(const std::string& method, Communicator& beside,
                               std::vector<std::unique_ptr<Communicator>> lanes,
                               Deadline deadline) {
  SCOPED_TRACE(method + ", " + std::to_string(beside.size()) +
               " ranks, lanes: " + std::to_string(lanes.size()));
  const std::vector<LayerSpec> model = {{.name = "square", .shape = {256, 256}},
                                        {.name = "wide", .shape = {96, 512}},
                                        {.name = "long", .shape = {60'000}},
                                        {.name = "bias", .shape = {512}}};
  constexpr std::size_t kMostOfAFrame = 48 + 64 + 66 + 4 * 16;  // flags, alignment, acknowledgement
  constexpr int kPasses = 3;
  const auto ranks = static_cast<std::uint64_t>(beside.size());
  Aggregator aggregator(model, {.method = parse_level(method)}, std::move(lanes));
  std::vector<std::vector<float>> values;
  for (const LayerSpec& layer : model) values.emplace_back(layer.count());

  using Layers = std::vector<std::size_t>;
  for (const Layers& given : {Layers{0, 1, 2, 3}, Layers{1}, Layers{0, 2}, Layers{3}}) {
    double payload = 0;
    std::uint64_t elements = 0;
    Bucket bucket;
    for (const std::size_t layer : given) {
      payload += static_cast<double>(
          payload_bytes(aggregator.plan().levels[layer], model[layer].matrix()));
      elements += values[layer].size();
      bucket.gradients.push_back({.layer = layer, .data = values[layer].data()});
    }
    const Sent before = sent_by_all(aggregator, beside, deadline);
    for (int pass = 0; pass < kPasses; ++pass) {
      for (const std::size_t layer : given) {
        for (std::size_t i = 0; i < values[layer].size(); ++i) {
          values[layer][i] = static_cast<float>((i * (2 * layer + 3) + i / 7) % 101) - 50.0f;
        }
      }
      aggregator.exchange(bucket);
    }
    const Sent after = sent_by_all(aggregator, beside, deadline);
    const std::uint64_t share = 2 * (ranks - 1) * kPasses;  // of all ranks
    const double dense = static_cast<double>(share * elements * sizeof(float));
    const double rounded = static_cast<double>(ranks * kPasses);  // each rank, a byte a pass
    EXPECT_NEAR(static_cast<double>(after.dense - before.dense), dense, rounded);
    const double expected = static_cast<double>(share) * payload;
    const double sent = static_cast<double>(after.bytes - before.bytes);
    const double frames = static_cast<double>((after.messages - before.messages) * kMostOfAFrame);
    EXPECT_GE(sent, 0.99 * expected) << given.size();
    EXPECT_LE(sent, 1.03 * expected + frames) << given.size();
  }
}

}  // namespace lgreco
