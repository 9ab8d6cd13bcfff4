#include "src/engine/shard_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace lgreco {
namespace {

LayerRecord layer(std::int64_t count) {
  LayerRecord record({.name = "l" + std::to_string(count), .shape = {count, 1}});
  record.use(parse_level("quantize:4"));
  return record;
}

class ShardLayoutTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ShardLayoutTest, testing::Values(1, 2, 3, 4, 8));

TEST_P(ShardLayoutTest, CoversEveryElementOnceWithoutOverlap) {
  std::vector<LayerRecord> records;
  for (std::int64_t count : {1, 1023, 1024, 1025, 40'000, 999'999}) records.push_back(layer(count));
  std::vector<const LayerRecord*> layers;
  for (const LayerRecord& record : records) layers.push_back(&record);

  const ShardLayout layout = shard_layout(layers, GetParam());
  std::vector<std::size_t> next(layers.size(), 0);
  std::vector<std::size_t> filled(static_cast<std::size_t>(GetParam()), 8);  // 6 flags, padded
  for (const Piece& piece : layout.pieces) {
    EXPECT_EQ(piece.first, next[piece.part]);
    next[piece.part] += piece.count;
    std::size_t& end = filled[static_cast<std::size_t>(piece.owner)];
    EXPECT_EQ(piece.offset, end);
    EXPECT_EQ(piece.offset % 4, 0u);
    end += (piece.bytes + 3) / 4 * 4;
  }
  for (std::size_t i = 0; i < layers.size(); ++i) EXPECT_EQ(next[i], layers[i]->shape.count());
  EXPECT_EQ(filled, layout.message_bytes);
}

TEST_P(ShardLayoutTest, MessagesAreBalanced) {
  std::vector<LayerRecord> records;
  for (int i = 0; i < 20; ++i) records.push_back(layer(30'000 + 1'000 * i));
  std::vector<const LayerRecord*> layers;
  for (const LayerRecord& record : records) layers.push_back(&record);
  const ShardLayout layout = shard_layout(layers, GetParam());
  const auto [least, most] =
      std::minmax_element(layout.message_bytes.begin(), layout.message_bytes.end());
  EXPECT_LE(static_cast<double>(*most), 1.1 * static_cast<double>(*least));
}

}  // namespace
}  // namespace lgreco
