// Between two ranks every payload goes to everybody.

#include <gtest/gtest.h>

#include <string>

#include "lgreco/algorithm.h"
#include "lgreco/compressor.h"
#include "tests/trainer.h"

namespace lgreco {
namespace {

static_assert(algorithm_for(1) == Algorithm::sharded);
static_assert(algorithm_for(2) == Algorithm::gathered);
static_assert(algorithm_for(3) == Algorithm::sharded);

std::vector<float> decoded(const std::string& method, const std::vector<float>& values) {
  const auto codec = coded_compressor(parse_level(method));
  std::vector<std::byte> payload(codec->payload_bytes(values.size()));
  EXPECT_TRUE(codec->encode(values, {}, 0, payload));
  std::vector<float> result(values.size());
  EXPECT_TRUE(codec->decode_add(payload, result).is_ok());
  return result;
}

// The mean of what each rank alone would decode, bit for bit. Of methods without randomness, in a
// layer of one piece.
TEST(GatheredSum, NothingIsEncodedTwice) {
  const std::vector<LayerSpec> model = {{.name = "matrix", .shape = {32, 32}}};
  for (const std::string method : {"cast:bf16", "topk:0.1", "quantize:3:rounding=nearest"}) {
    run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
      const int rank = lanes[0]->rank();
      Aggregator aggregator(model, options(method), std::move(lanes));
      std::vector<std::vector<float>> all;
      for (int sender = 0; sender < 2; ++sender) {
        all.push_back(gradients(sender, 0)[0]);
        all.back().resize(model[0].count());
      }
      std::vector<float> mine = all[static_cast<std::size_t>(rank)];
      aggregator.exchange({.gradients = {{.layer = 0, .data = mine.data()}}});
      const std::vector<float> first = decoded(method, all[0]), second = decoded(method, all[1]);
      for (std::size_t i = 0; i < mine.size(); ++i) {
        ASSERT_EQ(mine[i], 0.5f * (first[i] + second[i])) << method << " at " << i;
      }
    });
  }
}

// One collective a round, and the commit.
TEST(GatheredSum, TakesOneCollectiveARound) {
  for (const auto& [method, collectives] :
       {std::pair("quantize:4", 2u), std::pair("low_rank:2:min_ratio=1", 3u)}) {
    run_ranks_on_lanes(2, 1, [&](Communicators lanes) {
      Trainer trainer(std::move(lanes), options(method));
      Values values = gradients(trainer.rank, 0);
      const auto before = trainer.aggregator.stats().messages_sent;
      trainer.average(values);
      EXPECT_EQ(trainer.aggregator.stats().messages_sent - before, collectives) << method;
    });
  }
}

}  // namespace
}  // namespace lgreco
