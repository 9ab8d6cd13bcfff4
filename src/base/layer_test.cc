#include "lgreco/layer.h"

#include <gtest/gtest.h>

#include "lgreco/status.h"

namespace lgreco {
namespace {

TEST(AsMatrix, FirstExtentIsTheRows) {
  EXPECT_EQ(as_matrix({}), (MatrixShape{1, 1}));
  EXPECT_EQ(as_matrix({7}), (MatrixShape{7, 1}));
  EXPECT_EQ(as_matrix({64, 3, 3, 3}), (MatrixShape{64, 27}));
  EXPECT_EQ(as_matrix({0, 5}), (MatrixShape{0, 5}));
  EXPECT_EQ(as_matrix({5, 0}).count(), 0u);
}

TEST(AsMatrix, CountsBeyond32Bits) {
  EXPECT_EQ(as_matrix({(std::int64_t{1} << 31) + 3, 2}).count(), (std::uint64_t{1} << 32) + 6);
}

TEST(AsMatrix, RefusesImpossibleShapes) {
  EXPECT_THROW((void)as_matrix({3, -1}), ConfigError);
  EXPECT_THROW((void)as_matrix({std::int64_t{1} << 40, std::int64_t{1} << 40}), ConfigError);
}

}  // namespace
}  // namespace lgreco
