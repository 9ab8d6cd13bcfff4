// In steady state no method takes memory from the heap.

#include <gtest/gtest.h>

#include "lgreco/compressor.h"
#include "tests/counting_new.h"

namespace lgreco {
namespace {

template <typename Function>
std::size_t allocations_of(Function function) {
  const std::size_t before = allocations;
  function();
  return allocations - before;
}

std::vector<float> some_values(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i * 7919 % 10007) - 5000;
  return values;
}

TEST(Allocations, AreCounted) {
  EXPECT_EQ(allocations_of([] { std::vector<int> two(2); }), 1u);
  EXPECT_EQ(allocations_of([] {}), 0u);
}

TEST(Allocations, CodedMethodsMakeNone) {
  const auto values = some_values(70'000);
  for (const char* spelling : {"dense", "cast:bf16", "cast:fp16", "quantize:1", "quantize:4",
                               "quantize:8:rounding=nearest", "topk:0.01", "topk:0.5:values=fp32",
                               "topk:1", "entropy:0.1", "entropy:2", "entropy:6"}) {
    const auto codec = coded_compressor(parse_level(spelling));
    std::vector<float> sum(values.size(), 0.0f);
    auto kept = values;
    bool encoded = false, decoded = false;
    std::vector<std::byte> payload(codec->payload_bytes(values.size()));
    const std::size_t count = allocations_of([&] {
      if (codec->payload_bytes(values.size()) != payload.size()) return;
      encoded = codec->encode(values, {1, 2, 3}, 0, payload) &&
                codec->encode_keep_loss(kept, values, {1, 2, 3}, 0, payload);
      decoded = codec->decode_add(payload, sum).is_ok();
    });
    EXPECT_EQ(count, 0u) << spelling;
    EXPECT_TRUE(encoded && decoded) << spelling;
  }
}

TEST(Allocations, LinearMethodsMakeNoneOncePrepared) {
  constexpr MatrixShape kShape{200, 300};
  const auto values = some_values(kShape.count());
  for (const char* spelling :
       {"low_rank:1", "low_rank:32", "low_rank:4:factors=bf16", "low_rank:4:factors=4"}) {
    const auto compressor = linear_compressor(parse_level(spelling));
    LinearState state;
    std::vector<std::vector<float>> rounds;
    for (int round = 0; round < compressor->rounds(); ++round) {
      rounds.emplace_back(compressor->round_floats(kShape, round));
    }
    const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
    std::vector<float> result(kShape.count());
    compressor->prepare(kShape, {1, 0, 2}, state);
    const std::size_t count = allocations_of([&] {
      for (std::uint64_t step = 0; step < 3; ++step) {
        for (std::size_t round = 0; round < means.size(); ++round) {
          compressor->encode_round(static_cast<int>(round), values, kShape, {1, step, 2}, state,
                                   std::span(means).first(round), means[round]);
        }
        compressor->decode(kShape, {1, step, 2}, means, result);
        compressor->commit(kShape, {1, step, 2}, means, state);
      }
      compressor->prepare(kShape, {1, 3, 2}, state);
    });
    EXPECT_EQ(count, 0u) << spelling;
  }
}

}  // namespace
}  // namespace lgreco
