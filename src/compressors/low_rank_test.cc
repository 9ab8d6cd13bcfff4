#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lgreco/compressor.h"
#include "src/kernels/low_rank.h"

namespace lgreco {
namespace {

constexpr MatrixShape kShape{40, 60};

// A matrix with singular values 2^-i, i = 0..39, up to the near-orthogonality of Gaussian factors.
std::vector<float> decaying_matrix(unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> matrix(kShape.count(), 0.0);
  for (int term = 0; term < 12; ++term) {
    std::vector<double> left(kShape.rows), right(kShape.cols);
    for (double& value : left) value = normal(generator);
    for (double& value : right) value = normal(generator);
    for (std::size_t i = 0; i < kShape.rows; ++i) {
      for (std::size_t j = 0; j < kShape.cols; ++j) {
        matrix[i * kShape.cols + j] += std::ldexp(left[i] * right[j], -term);
      }
    }
  }
  return {matrix.begin(), matrix.end()};
}

/// One rank's exchange of one layer.
class OneRank {
 public:
  explicit OneRank(const char* spelling, const MatrixShape& shape = kShape)
      : level_(parse_level(spelling)), shape_(shape), compressor_(linear_compressor(level_)) {}

  std::vector<float> step(std::span<const float> values, std::uint64_t step_number = 0) {
    const RandomKey key{1, step_number, 2};
    compressor_->prepare(shape_, key, state);
    std::vector<std::vector<float>> rounds;
    std::vector<std::span<float>> means;
    for (int round = 0; round < compressor_->rounds(); ++round) {
      rounds.emplace_back(compressor_->round_floats(shape_, round));
    }
    for (int round = 0; round < compressor_->rounds(); ++round) {
      std::vector<float>& sum = rounds[static_cast<std::size_t>(round)];
      compressor_->encode_round(round, values, shape_, key, state, means, sum);
      send(round, sum);
      means.emplace_back(sum);
    }
    std::vector<float> result(shape_.count());
    compressor_->decode(shape_, key, means, result);
    compressor_->commit(shape_, key, means, state);
    return result;
  }

  LinearState state;

 private:
  void send(int round, std::vector<float>& sum) const {
    const auto codec = factor_codec(level_, shape_, round);
    std::vector<std::byte> payload(codec->payload_bytes(sum.size()));
    ASSERT_TRUE(codec->encode(sum, {}, 0, payload));
    std::fill(sum.begin(), sum.end(), 0.0f);
    ASSERT_TRUE(codec->decode_add(payload, sum).is_ok());
  }

  Level level_;
  MatrixShape shape_;
  std::unique_ptr<LinearCompressor> compressor_;
};

double distance(std::span<const float> a, std::span<const float> b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += std::pow(double{a[i]} - b[i], 2);
  return std::sqrt(squares);
}

TEST(LowRank, WarmStartReachesTheBestApproximation) {
  const auto matrix = decaying_matrix(1);
  OneRank rank("low_rank:4");
  std::vector<float> approximation;
  for (std::uint64_t step = 0; step < 60; ++step) approximation = rank.step(matrix, step);
  const std::vector<Level> level = {parse_level("low_rank:4")};
  const double best = analyze(matrix, kShape, level)[0];
  EXPECT_NEAR(distance(matrix, approximation), best, 1e-3 * best);
}

// The error that warm steps leave when both factors are rounded on their way.
TEST(LowRank, AnalyzeKnowsWhatRoundedFactorsLose) {
  constexpr MatrixShape kWide{96, 400};
  for (const double decay : {0.6, 1.0}) {
    // Singular values i^-decay and no structure besides.
    std::mt19937 generator(5);
    std::normal_distribution<float> normal;
    std::vector<float> left(kWide.rows * kWide.rows), right(kWide.cols * kWide.rows);
    for (float& value : left) value = normal(generator);
    for (float& value : right) value = normal(generator);
    kernels::orthonormalize(left.data(), kWide.rows, kWide.rows);
    kernels::orthonormalize(right.data(), kWide.cols, kWide.rows);
    for (std::size_t i = 0; i < left.size(); ++i) {
      left[i] *= static_cast<float>(std::pow(1.0 + static_cast<double>(i / kWide.rows), -decay));
    }
    std::vector<float> matrix(kWide.count());
    kernels::reconstruct(left.data(), right.data(), kWide.rows, kWide.cols, kWide.rows,
                         matrix.data());
    for (const auto& [spelling, tolerance] : {std::pair{"low_rank:1:factors=8", 0.01},
                                              {"low_rank:4:factors=8", 0.01},
                                              {"low_rank:4:factors=6", 0.01},
                                              {"low_rank:4:factors=4", 0.015},
                                              {"low_rank:8:factors=4", 0.015},
                                              {"low_rank:2:factors=3", 0.02},
                                              {"low_rank:4:factors=2", 0.05}}) {
      OneRank rank(spelling, kWide);
      double squares = 0;
      for (std::uint64_t step = 0; step < 60; ++step) {
        const double error = distance(matrix, rank.step(matrix, step));
        if (step >= 40) squares += error * error / 20;
      }
      const double expected = analyze(matrix, kWide, std::vector{parse_level(spelling)})[0];
      EXPECT_NEAR(expected, std::sqrt(squares), tolerance * std::sqrt(squares)) << spelling;
    }
  }
}

TEST(LowRank, ZeroLayerGivesZeros) {
  OneRank rank("low_rank:4");
  const std::vector<float> zeros(kShape.count(), 0.0f);
  EXPECT_EQ(rank.step(zeros), zeros);
  EXPECT_EQ(rank.step(zeros, 1), zeros);
  // and does not stay dead
  const auto matrix = decaying_matrix(2);
  EXPECT_LT(distance(rank.step(matrix, 2), matrix), 0.9 * distance(zeros, matrix));
}

TEST(LowRank, RankDeficientLayerIsExact) {
  std::vector<float> matrix(kShape.count());
  for (std::size_t i = 0; i < kShape.rows; ++i) {
    for (std::size_t j = 0; j < kShape.cols; ++j) {
      matrix[i * kShape.cols + j] = static_cast<float>((i % 5) * (j % 7));
    }
  }
  OneRank rank("low_rank:4");
  const std::vector<float> zeros(kShape.count(), 0.0f);
  EXPECT_LT(distance(rank.step(matrix), matrix), 1e-5 * distance(zeros, matrix));
}

TEST(LowRank, IsScaleFree) {
  const auto matrix = decaying_matrix(3);
  for (int k : {-90, -30, 40, 90}) {
    OneRank plain("low_rank:3"), scaled("low_rank:3");
    std::vector<float> scaled_matrix(matrix.size());
    for (std::size_t i = 0; i < matrix.size(); ++i) scaled_matrix[i] = std::ldexp(matrix[i], k);
    for (std::uint64_t step = 0; step < 3; ++step) {
      const auto expected = plain.step(matrix, step);
      const auto result = scaled.step(scaled_matrix, step);
      for (std::size_t i = 0; i < matrix.size(); ++i) {
        ASSERT_EQ(result[i], std::ldexp(expected[i], k)) << "2^" << k;
      }
    }
  }
}

// Prepared once, the state stays so: preparing it again draws nothing.
TEST(LowRank, CommitLeavesAPreparedState) {
  const auto compressor = linear_compressor(parse_level("low_rank:3"));
  const RandomKey first{1, 0, 2}, second{1, 1, 2};
  LinearState state;
  compressor->prepare(kShape, first, state);
  EXPECT_EQ(state.factor.size(), 3 * kShape.cols);
  std::vector<float> left(3 * kShape.rows), right(3 * kShape.cols, 0.0f);
  for (std::size_t i = 0; i < kShape.cols; ++i) right[i] = static_cast<float>(i) * 0x1.0p-90f;
  const std::vector<std::span<float>> means = {left, right};
  compressor->commit(kShape, first, means, state);
  for (std::size_t i = 0; i < kShape.cols; ++i) {
    EXPECT_EQ(state.factor[i], static_cast<float>(i) * 0x1.0p-5f);
  }
  const LinearState committed = state;
  compressor->prepare(kShape, second, state);
  EXPECT_EQ(state.factor, committed.factor) << "a column was still zero";
}

TEST(LowRank, PrepareKeepsColumnsThatFit) {
  const RandomKey key{1, 5, 2};
  LinearState four;
  linear_compressor(parse_level("low_rank:4"))->prepare(kShape, key, four);
  LinearState two = four;
  linear_compressor(parse_level("low_rank:2"))->prepare(kShape, key, two);
  const auto half = static_cast<std::ptrdiff_t>(2 * kShape.cols);
  EXPECT_EQ(two.factor, std::vector<float>(four.factor.begin(), four.factor.begin() + half));
  linear_compressor(parse_level("low_rank:4"))->prepare(kShape, key, two);
  EXPECT_EQ(two.factor, four.factor) << "a column depends on the key and its number alone";
}

TEST(LowRank, ChangeOfRankKeepsWarmColumns) {
  const auto matrix = decaying_matrix(4);
  OneRank four("low_rank:4");
  for (std::uint64_t step = 0; step < 30; ++step) (void)four.step(matrix, step);
  OneRank six("low_rank:6"), cold("low_rank:6");
  six.state = four.state;
  EXPECT_LT(distance(six.step(matrix, 30), matrix), distance(cold.step(matrix, 30), matrix));
  OneRank two("low_rank:2");
  two.state = four.state;
  const std::vector<Level> level = {parse_level("low_rank:2")};
  const double best = analyze(matrix, kShape, level)[0];
  EXPECT_NEAR(distance(two.step(matrix, 30), matrix), best, 0.02 * best);
}

}  // namespace
}  // namespace lgreco
