#include "src/engine/shard_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <numeric>

namespace lgreco {
namespace {

class ShardLayoutTest : public testing::TestWithParam<int> {
 protected:
  Shardable vector_of(std::size_t count) {
    owners_.push_back(choose_owners(count, *codec_, load_));
    return {count, codec_.get(), owners_.back()};
  }

  std::unique_ptr<CodedCompressor> codec_ = coded_compressor(parse_level("quantize:4"));
  std::vector<std::size_t> load_ = std::vector<std::size_t>(static_cast<std::size_t>(GetParam()));
  std::list<std::vector<int>> owners_;
};
INSTANTIATE_TEST_SUITE_P(Ranks, ShardLayoutTest, testing::Values(1, 2, 3, 4, 8));

TEST_P(ShardLayoutTest, CoversEveryElementOnceWithoutOverlap) {
  std::vector<Shardable> vectors;
  for (std::size_t count : {1, 1023, 1024, 1025, 40'000, 999'999}) {
    vectors.push_back(vector_of(count));
  }
  const ShardLayout layout = shard_layout(vectors, GetParam());
  std::vector<std::size_t> next(vectors.size(), 0);
  std::vector<std::size_t> filled(static_cast<std::size_t>(GetParam()), 0);
  for (const Piece& piece : layout.pieces) {
    EXPECT_EQ(piece.first, next[piece.part]);
    next[piece.part] += piece.count;
    std::size_t& end = filled[static_cast<std::size_t>(piece.owner)];
    EXPECT_EQ(piece.offset, end);
    EXPECT_EQ(piece.offset % 4, 0u);
    end += (piece.bytes + 3) / 4 * 4;
  }
  for (std::size_t i = 0; i < vectors.size(); ++i) EXPECT_EQ(next[i], vectors[i].count);
  EXPECT_EQ(filled, layout.message_bytes);
}

TEST_P(ShardLayoutTest, MessagesAreBalanced) {
  std::vector<Shardable> vectors;
  for (std::size_t i = 0; i < 20; ++i) vectors.push_back(vector_of(30'000 + 1'000 * i));
  const ShardLayout layout = shard_layout(vectors, GetParam());
  const auto [least, most] =
      std::minmax_element(layout.message_bytes.begin(), layout.message_bytes.end());
  EXPECT_LE(static_cast<double>(*most), 1.1 * static_cast<double>(*least));
}

}  // namespace
}  // namespace lgreco
