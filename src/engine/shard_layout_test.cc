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
    const Codecs codecs{codec_.get(), gather_codec_ ? gather_codec_.get() : codec_.get()};
    owners_.push_back(choose_owners(count, codecs, load_));
    return {count, codecs, owners_.back()};
  }

  std::unique_ptr<CodedCompressor> codec_ = coded_compressor(parse_level("quantize:4"));
  std::unique_ptr<CodedCompressor> gather_codec_;  // null: the same
  std::vector<std::size_t> load_ = std::vector<std::size_t>(static_cast<std::size_t>(GetParam()));
  std::list<std::vector<int>> owners_;
};
INSTANTIATE_TEST_SUITE_P(Ranks, ShardLayoutTest, testing::Values(1, 2, 3, 4, 8));

TEST_P(ShardLayoutTest, CoversEveryElementOnceWithoutOverlap) {
  gather_codec_ = coded_compressor(parse_level("quantize:7"));
  std::vector<Shardable> vectors;
  for (std::size_t count : {1, 1023, 1024, 1025, 40'000, 999'999}) {
    vectors.push_back(vector_of(count));
  }
  const ShardLayout layout = shard_layout(vectors, GetParam());
  std::vector<std::size_t> next(vectors.size(), 0);
  std::vector<std::size_t> filled(static_cast<std::size_t>(GetParam()), 0), gathered = filled;
  for (const Piece& piece : layout.pieces) {
    EXPECT_EQ(piece.first, next[piece.part]);
    next[piece.part] += piece.count;
    const auto owner = static_cast<std::size_t>(piece.owner);
    for (const auto& [place, end] :
         {std::pair(piece.scatter, &filled[owner]), std::pair(piece.gather, &gathered[owner])}) {
      EXPECT_EQ(place.offset, *end);
      EXPECT_EQ(place.offset % 4, 0u);
      *end += (place.bytes + 3) / 4 * 4;
    }
    EXPECT_EQ(piece.scatter.bytes, codec_->payload_bytes(piece.count));
    EXPECT_EQ(piece.gather.bytes, gather_codec_->payload_bytes(piece.count));
  }
  for (std::size_t i = 0; i < vectors.size(); ++i) EXPECT_EQ(next[i], vectors[i].count);
  EXPECT_EQ(filled, layout.scatter_bytes);
  EXPECT_EQ(gathered, layout.gather_bytes);
}

// A column of a factor in bits shares its scales with nothing, and belongs to one rank.
TEST_P(ShardLayoutTest, PiecesAreOfWholeColumns) {
  constexpr std::size_t kColumn = 777, kColumns = 5;
  codec_ = factor_codec(parse_level("low_rank:5:factors=4"), {kColumn, 2000}, 0);
  const std::vector<Shardable> vectors = {vector_of(kColumns * kColumn)};
  std::size_t bytes = 0;
  for (const Piece& piece : shard_layout(vectors, GetParam()).pieces) {
    EXPECT_EQ(piece.first % kColumn, 0u);
    EXPECT_EQ(piece.count % kColumn, 0u);
    bytes += piece.scatter.bytes;
    EXPECT_EQ(piece.gather.bytes, piece.scatter.bytes);
  }
  EXPECT_EQ(bytes, codec_->payload_bytes(kColumns * kColumn)) << "cutting costs nothing";
}

TEST_P(ShardLayoutTest, MessagesAreBalanced) {
  std::vector<Shardable> vectors;
  for (std::size_t i = 0; i < 20; ++i) vectors.push_back(vector_of(30'000 + 1'000 * i));
  const ShardLayout layout = shard_layout(vectors, GetParam());
  const auto [least, most] =
      std::minmax_element(layout.scatter_bytes.begin(), layout.scatter_bytes.end());
  EXPECT_LE(static_cast<double>(*most), 1.1 * static_cast<double>(*least));
}

}  // namespace
}  // namespace lgreco
