#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "src/kernels/low_rank.h"

namespace lgreco::kernels {
namespace {

constexpr std::size_t kRows = 200;

std::vector<float> gaussian(std::size_t rank, unsigned seed = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(kRows * rank);
  for (float& value : values) value = normal(generator);
  return values;
}

double dot(const float* a, const float* b) {
  double sum = 0;
  for (std::size_t i = 0; i < kRows; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void expect_orthonormal(const std::vector<float>& columns, std::size_t rank) {
  for (std::size_t a = 0; a < rank; ++a) {
    for (std::size_t b = 0; b <= a; ++b) {
      EXPECT_NEAR(dot(&columns[a * kRows], &columns[b * kRows]), a == b ? 1 : 0, 1e-6);
    }
  }
}

TEST(Orthonormalize, MakesColumnsOrthonormal) {
  for (std::size_t rank : {1, 2, 4, 9, 32}) {
    auto columns = gaussian(rank);
    orthonormalize(columns.data(), kRows, rank);
    expect_orthonormal(columns, rank);
  }
}

TEST(Orthonormalize, SurvivesNearlyDependentColumns) {
  auto columns = gaussian(3);
  for (std::size_t i = 0; i < kRows; ++i) {
    columns[kRows + i] = columns[i] + 1e-4f * columns[kRows + i];
  }
  orthonormalize(columns.data(), kRows, 3);
  expect_orthonormal(columns, 3);
}

TEST(Orthonormalize, ZeroAndDependentColumnsBecomeZero) {
  auto columns = gaussian(4);
  for (std::size_t i = 0; i < kRows; ++i) {
    columns[kRows + i] = 0.0f;
    columns[2 * kRows + i] = -3.0f * columns[i];
  }
  orthonormalize(columns.data(), kRows, 4);
  for (std::size_t i = kRows; i < 3 * kRows; ++i) EXPECT_EQ(columns[i], 0.0f);
  EXPECT_NEAR(dot(&columns[0], &columns[0]), 1, 1e-6);
  EXPECT_NEAR(dot(&columns[3 * kRows], &columns[3 * kRows]), 1, 1e-6);
}

// Columns 8 and on are combinations of the first eight, rounded to fp32.
TEST(Orthonormalize, KeepsTheTrueRankOfManyColumns) {
  constexpr std::size_t kTrueRank = 8, kRank = 64;
  auto columns = gaussian(kRank, 2);
  const auto weights = gaussian(kRank, 3);
  for (std::size_t k = kTrueRank; k < kRank; ++k) {
    for (std::size_t i = 0; i < kRows; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < kTrueRank; ++j) {
        sum += static_cast<double>(weights[k * kTrueRank + j]) * columns[j * kRows + i];
      }
      columns[k * kRows + i] = static_cast<float>(sum);
    }
  }
  orthonormalize(columns.data(), kRows, kRank);
  expect_orthonormal(columns, kTrueRank);
  for (std::size_t i = kTrueRank * kRows; i < columns.size(); ++i) ASSERT_EQ(columns[i], 0.0f);
}

// What is left of the second column is near the threshold, where one pass would not do.
TEST(Orthonormalize, SurvivesColumnsJustAboveTheThreshold) {
  auto columns = gaussian(2, 4);
  for (std::size_t i = 0; i < kRows; ++i) {
    columns[kRows + i] = columns[i] + 4e-6f * columns[kRows + i];
  }
  orthonormalize(columns.data(), kRows, 2);
  expect_orthonormal(columns, 2);
}

TEST(Orthonormalize, IsScaleFreeColumnByColumn) {
  const auto plain = gaussian(4);
  auto expected = plain;
  orthonormalize(expected.data(), kRows, 4);
  for (int k : {-100, -40, 60, 100}) {
    auto scaled = plain;
    for (float& value : scaled) value = std::ldexp(value, k);
    orthonormalize(scaled.data(), kRows, 4);
    EXPECT_EQ(scaled, expected) << "2^" << k;
  }
  auto uneven = plain;
  for (std::size_t i = 0; i < uneven.size(); ++i) {
    uneven[i] = std::ldexp(uneven[i], i / kRows % 2 == 0 ? 90 : -90);
  }
  orthonormalize(uneven.data(), kRows, 4);
  EXPECT_EQ(uneven, expected);
}

// Small whole numbers are exact there, and everything computed from them must be too.
TEST(Orthonormalize, IsScaleFreeDownToSubnormals) {
  auto expected = gaussian(4);
  for (float& value : expected) value = std::round(4 * value);
  auto scaled = expected;
  for (float& value : scaled) value = std::ldexp(value, -145);
  orthonormalize(expected.data(), kRows, 4);
  orthonormalize(scaled.data(), kRows, 4);
  EXPECT_EQ(scaled, expected);
}

}  // namespace
}  // namespace lgreco::kernels
