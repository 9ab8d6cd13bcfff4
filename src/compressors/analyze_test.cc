// Errors from `analyze` against those that compressing and decompressing leaves.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "hwy/highway.h"
#include "lgreco/compressor.h"
#include "src/engine/shard_layout.h"
#include "src/kernels/low_rank.h"

namespace lgreco {
namespace {

std::vector<Level> levels_of(const std::vector<std::string>& spellings) {
  std::vector<Level> levels;
  for (const std::string& spelling : spellings) levels.push_back(parse_level(spelling));
  return levels;
}

std::vector<double> errors_of(std::span<const float> values, const MatrixShape& shape,
                              const std::vector<std::string>& spellings) {
  return analyze(values, shape, levels_of(spellings));
}

std::vector<double> errors_of(std::span<const float> values,
                              const std::vector<std::string>& spellings) {
  return errors_of(values, {1, values.size()}, spellings);
}

double norm(std::span<const float> values) {
  double squares = 0;
  for (float value : values) squares += static_cast<double>(value) * value;
  return std::sqrt(squares);
}

// Root of the mean square over a few draws, which nearest rounding repeats.
double measured(std::span<const float> values, const std::string& spelling) {
  constexpr std::uint64_t kDraws = 16;
  const auto codec = coded_compressor(parse_level(spelling));
  std::vector<std::byte> payload(codec->payload_bytes(values.size()));
  double squares = 0;
  for (std::uint64_t step = 0; step < kDraws; ++step) {
    std::vector<float> lost(values.begin(), values.end());
    if (!codec->encode_keep_loss(lost, {}, {1, step, 3}, 0, payload)) {
      return std::numeric_limits<double>::infinity();
    }
    squares += norm(lost) * norm(lost) / kDraws;
  }
  return std::sqrt(squares);
}

// Gaussian values to an odd power: the larger the power, the heavier the tails.
std::vector<float> random_values(std::size_t count, int power, float scale = 1) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values)
    value = std::pow(normal(generator), static_cast<float>(power)) * scale;
  return values;
}

const std::vector<std::string> kQuantize = {"quantize:1",
                                            "quantize:2",
                                            "quantize:3",
                                            "quantize:4",
                                            "quantize:5",
                                            "quantize:6",
                                            "quantize:7",
                                            "quantize:8",
                                            "quantize:1:bucket=64",
                                            "quantize:4:bucket=64",
                                            "quantize:3:bucket=65536",
                                            "quantize:1:bucket=64:rounding=stochastic",
                                            "quantize:1:rounding=stochastic",
                                            "quantize:2:rounding=stochastic",
                                            "quantize:3:bucket=65536:rounding=stochastic",
                                            "quantize:4:rounding=stochastic",
                                            "quantize:5:rounding=stochastic",
                                            "quantize:8:rounding=stochastic"};
const std::vector<std::string> kTopK = {"topk:0.5",
                                        "topk:0.001",
                                        "topk:0.3",
                                        "topk:0.2",
                                        "topk:0.1",
                                        "topk:0.05",
                                        "topk:0.02",
                                        "topk:0.01",
                                        "topk:0.005",
                                        "topk:0.002",
                                        "topk:0.9:values=fp32",
                                        "topk:0.1:values=fp32",
                                        "topk:0.1",
                                        "topk:0.00001",
                                        "topk:0.01:values=bf16",
                                        "topk:0.01:values=2",
                                        "topk:0.1:values=2",
                                        "topk:0.1:values=3",
                                        "topk:0.3:values=8",
                                        "topk:1",
                                        "topk:1:values=2",
                                        "topk:1:values=bf16",
                                        "topk:1:values=fp32"};
const std::vector<std::string> kEntropy = {"entropy:0.03", "entropy:0.1", "entropy:0.25",
                                           "entropy:0.5",  "entropy:1",   "entropy:2",
                                           "entropy:3",    "entropy:4.5", "entropy:8"};
const std::vector<std::string> kCast = {"cast:bf16", "cast:fp16"};

void expect_agreement(std::span<const float> values, const std::vector<std::string>& spellings,
                      double tolerance) {
  const auto errors = errors_of(values, spellings);
  for (std::size_t i = 0; i < errors.size(); ++i) {
    const double truth = measured(values, spellings[i]);
    if (std::isinf(truth)) {
      EXPECT_EQ(errors[i], truth) << spellings[i];
    } else {
      EXPECT_NEAR(errors[i], truth, tolerance * truth) << spellings[i];
    }
  }
}

TEST(Analyze, AgreesWithCompressAndMeasure) {
  for (int power : {1, 3, 7}) {
    SCOPED_TRACE("Gaussian to the power " + std::to_string(power));
    const auto values = random_values(100'003, power);
    expect_agreement(values, kQuantize, 0.02);
    expect_agreement(values, kTopK, 0.001);
    expect_agreement(values, kCast, 1e-9);
    expect_agreement(values, kEntropy, 0.02);
  }
}

// Values that are alike, of which a step sends all or none, and pieces of few bytes.
TEST(Analyze, AgreesOnTiesAndShortPieces) {
  for (std::size_t count : {1, 3, 100, 1025, 8192}) {
    const auto normal = random_values(count, 1);
    int sample = 0;
    const auto expect = [&](auto value_of) {
      SCOPED_TRACE(sample++);
      auto values = normal;
      for (float& value : values) value = value_of(value);
      expect_agreement(values, kEntropy, 0.02);
    };
    SCOPED_TRACE(count);
    std::size_t i = 0;
    expect([](float x) { return x; });
    expect([](float) { return 1.0f; });
    expect([&](float x) { return i++ % 10 >= 3 ? 0.0f : x < 0 ? -1.0f : 1.0f; });
    expect([](float x) { return std::clamp(3 * x, -1.0f, 1.0f); });
    expect([](float x) { return std::clamp(x, -2.0f, 2.0f); });
    expect([](float x) { return 1 + 1e-3f * x; });
    expect([&](float x) { return i++ % 2 == 0 ? 0.5f : x; });
    expect([&](float x) { return i++ % 12 == 0 ? 0.5f : x; });
  }
}

TEST(Analyze, AgreesAtAnyScale) {
  for (float scale : {1e-30f, 1e-20f, 1e20f, 1e30f}) {
    SCOPED_TRACE(scale);
    const auto values = random_values(20'000, 1, scale);
    expect_agreement(values, kQuantize, 0.02);
    expect_agreement(values, kTopK, 0.001);
    expect_agreement(values, kCast, 1e-9);
    expect_agreement(values, kEntropy, 0.02);
  }
}

TEST(Analyze, CountsWhatTheTypeCannotHoldAsInfinite) {
  auto values = random_values(5000, 1);
  values[17] = std::numeric_limits<float>::max();
  values[1700] = std::numeric_limits<float>::lowest();
  expect_agreement(values, {"cast:bf16", "cast:fp16", "topk:0.01", "topk:1", "quantize:1"}, 0.02);
  EXPECT_TRUE(std::isinf(errors_of(values, {"topk:0.01:values=bf16"})[0]));
  EXPECT_FALSE(std::isinf(errors_of(values, {"topk:0.01:values=fp32"})[0]));
}

TEST(Analyze, ShortVectors) {
  for (std::size_t count : {1, 2, 7, 8, 9, 100, 1023, 1025}) {
    SCOPED_TRACE(count);
    const auto values = random_values(count, 3);
    expect_agreement(values, kTopK, 0.008);
    expect_agreement(values, kCast, 1e-9);
    expect_agreement(values, {"quantize:8", "quantize:2", "quantize:1"}, 1e-3);
  }
}

// Each draw of a short bucket is far from its expectation, many together are not.
TEST(Analyze, IsTheExpectationOverTheDraws) {
  const auto values = random_values(11, 1);
  const auto codec = coded_compressor(parse_level("quantize:2:rounding=stochastic"));
  std::vector<std::byte> payload(codec->payload_bytes(values.size()));
  constexpr std::uint64_t kDraws = 20'000;
  double squares = 0;
  for (std::uint64_t step = 0; step < kDraws; ++step) {
    std::vector<float> lost = values;
    ASSERT_TRUE(codec->encode_keep_loss(lost, {}, {1, step, 3}, 0, payload));
    squares += norm(lost) * norm(lost) / kDraws;
  }
  const double expected = std::sqrt(squares);
  EXPECT_NEAR(errors_of(values, {"quantize:2:rounding=stochastic"})[0], expected, 0.01 * expected);
}

TEST(Analyze, TwoEncodingsLoseTheMeanOfBoth) {
  const auto values = random_values(10'000, 3);
  const auto errors = errors_of(
      values, {"quantize:2", "quantize:5", "quantize:2+5", "topk:0.1+0.3", "topk:0.1", "topk:0.3"});
  EXPECT_DOUBLE_EQ(errors[2], std::sqrt((errors[0] * errors[0] + errors[1] * errors[1]) / 2));
  EXPECT_DOUBLE_EQ(errors[3], std::sqrt((errors[4] * errors[4] + errors[5] * errors[5]) / 2));
}

TEST(Analyze, ZeroLayerLosesNothing) {
  const std::vector<float> zeros(3000, 0.0f);
  for (const auto& spellings :
       {kQuantize, kTopK, kCast, kEntropy, {"dense", "low_rank:1", "low_rank:4"}}) {
    for (double error : errors_of(zeros, {30, 100}, spellings)) EXPECT_EQ(error, 0);
  }
}

TEST(Analyze, EmptyLayerLosesNothing) {
  for (const MatrixShape shape : {MatrixShape{0, 10}, MatrixShape{10, 0}, MatrixShape{0, 0}}) {
    for (const MethodRow& row : method_table()) {
      EXPECT_EQ(errors_of({}, shape, {std::string(row.example)}), std::vector{0.0});
    }
  }
}

TEST(Analyze, OneHotValue) {
  for (float hot : {1.0f, 1.001f, -3e-20f, 2e25f}) {
    SCOPED_TRACE(hot);
    std::vector<float> values(4000, 0.0f);
    values[1234] = hot;
    expect_agreement(values, kTopK, 1e-6);
    expect_agreement(values, {"cast:bf16"}, 1e-6);
    for (double error : errors_of(values, {40, 100}, {"low_rank:1", "low_rank:2"})) {
      EXPECT_LE(error, 1e-7 * std::abs(hot));
    }
  }
}

TEST(Analyze, Ties) {
  std::vector<float> values(10'000);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = (i % 3 == 0 ? -1.0f : 1.0f) * (i % 10 == 0 ? 0.7f : 0.3f);
  }
  expect_agreement(values, kTopK, 1e-6);
  std::fill(values.begin(), values.end(), 0.3f);
  expect_agreement(values, kTopK, 1e-6);
  expect_agreement(values, {"quantize:1", "quantize:8"}, 1e-3);
}

// The values of a bin of magnitudes count as equal; here they are as unequal as they can be.
TEST(Analyze, TopKIsRightWithinOnePercentAtWorst) {
  std::vector<float> values(10'000, 1.0f);
  std::fill(values.begin(), values.begin() + 5000, std::nextafter(1.0f + 1.0f / 128, 0.0f));
  expect_agreement(values, kTopK, 0.008);
}

TEST(Analyze, NonFiniteLayerHasNoErrors) {
  for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    std::vector<float> values(12, 1.0f);
    values[3] = bad;
    for (const MethodRow& row : method_table()) {
      EXPECT_TRUE(std::isnan(errors_of(values, {3, 4}, {std::string(row.example)})[0]));
    }
  }
}

/// A matrix with the given singular values and no others.
std::vector<float> matrix_of(const MatrixShape& shape, const std::vector<double>& singular) {
  const std::size_t rank = singular.size();
  auto left = random_values(shape.rows * rank, 1), right = random_values(shape.cols * rank, 1);
  kernels::orthonormalize(left.data(), shape.rows, rank);
  kernels::orthonormalize(right.data(), shape.cols, rank);
  for (std::size_t k = 0; k < rank; ++k) {
    for (std::size_t i = 0; i < shape.rows; ++i) {
      left[k * shape.rows + i] *= static_cast<float>(singular[k]);
    }
  }
  std::vector<float> matrix(shape.count());
  kernels::reconstruct(left.data(), right.data(), shape.rows, shape.cols, rank, matrix.data());
  return matrix;
}

double tail_of(const std::vector<double>& singular, std::size_t rank) {
  double squares = 0;
  for (std::size_t i = rank; i < singular.size(); ++i) squares += singular[i] * singular[i];
  return std::sqrt(squares);
}

std::vector<std::string> ranks(int last) {
  std::vector<std::string> spellings;
  for (int rank = 1; rank <= last; ++rank) spellings.push_back("low_rank:" + std::to_string(rank));
  return spellings;
}

// The engine's pieces of a layer on so many ranks.
std::vector<Piece> pieces_of(std::size_t count, const CodedCompressor& codec, int ranks) {
  std::vector<std::size_t> load(static_cast<std::size_t>(ranks), 0);
  const Codecs codecs{&codec, &codec};
  const std::vector<int> owners = choose_owners(count, codecs, load);
  const Shardable layer{.count = count, .codecs = codecs, .owners = owners};
  return shard_layout({&layer, 1}, ranks).pieces;
}

TEST(Analyze, CutsALayerAsTheEngineDoes) {
  // Values that grow: pieces have little in common.
  auto values = random_values(50'000, 1);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] *= std::exp2(static_cast<float>(i / 4000));
  const std::vector<std::string> spellings = {"topk:0.01", "topk:0.2", "quantize:4:bucket=4096",
                                              "cast:bf16"};
  const auto whole = errors_of(values, spellings);
  for (int ranks : {2, 3, 7, 64}) {
    const auto errors = analyze(values, {1, values.size()}, levels_of(spellings), ranks);
    EXPECT_GT(errors[1], 1.1 * whole[1]) << "so there is something to see";
    for (std::size_t i = 0; i < spellings.size(); ++i) {
      const auto codec = coded_compressor(parse_level(spellings[i]));
      double squares = 0;
      for (const Piece& piece : pieces_of(values.size(), *codec, ranks)) {
        const auto part = std::span<const float>(values).subspan(piece.first, piece.count);
        squares += std::pow(measured(part, spellings[i]), 2);
      }
      EXPECT_NEAR(errors[i], std::sqrt(squares), 0.01 * std::sqrt(squares))
          << spellings[i] << " on " << ranks << " ranks";
    }
  }
}

struct Spectrum {
  const char* name;
  std::vector<double> singular;
};

std::vector<Spectrum> spectra() {
  std::vector<Spectrum> spectra = {{"halving", {}}, {"slow", {}}, {"flat", {}}, {"equal", {}}};
  for (int i = 0; i < 14; ++i) spectra[0].singular.push_back(std::ldexp(1.0, -i));
  for (int i = 0; i < 100; ++i) spectra[1].singular.push_back(1 / std::sqrt(i + 1.0));
  for (int i = 0; i < 100; ++i) spectra[2].singular.push_back(1 - 0.001 * i);
  // More equal ones than ranks are asked for, and a little behind them.
  for (int i = 0; i < 100; ++i) spectra[3].singular.push_back(i < 20 ? 1 : 0.05);
  return spectra;
}

// Of tails that are at least `smallest` times the norm of the matrix.
void expect_tails(const MatrixShape& shape, double tolerance, double smallest, double scale = 1) {
  for (const Spectrum& spectrum : spectra()) {
    auto matrix = matrix_of(shape, spectrum.singular);
    for (float& value : matrix) value *= static_cast<float>(scale);
    const auto errors = errors_of(matrix, shape, ranks(12));
    for (std::size_t rank = 1; rank <= 12; ++rank) {
      const double expected = scale * tail_of(spectrum.singular, rank);
      if (expected < smallest * scale * tail_of(spectrum.singular, 0)) continue;
      EXPECT_NEAR(errors[rank - 1], expected, tolerance * expected)
          << spectrum.name << ", rank " << rank << " of " << shape.rows << "x" << shape.cols;
    }
  }
}

void expect_exact(const MatrixShape& shape, double scale = 1) {
  expect_tails(shape, 1e-4, 1e-5, scale);
}
void expect_approximate(const MatrixShape& shape, double scale = 1) {
  expect_tails(shape, 0.01, 0.01, scale);
}

TEST(AnalyzeLowRank, FindsTheTailsOfSmallSides) { expect_exact({110, 128}); }
TEST(AnalyzeLowRank, FindsTheTailsOfWideMatrices) { expect_exact({300, 700}); }
TEST(AnalyzeLowRank, FindsTheTailsOfTallMatrices) { expect_exact({700, 300}); }
TEST(AnalyzeLowRank, ApproximatesTheTailsOfLargeWideMatrices) { expect_approximate({1040, 1100}); }
TEST(AnalyzeLowRank, ApproximatesTheTailsOfLargeTallMatrices) { expect_approximate({1100, 1040}); }

TEST(AnalyzeLowRank, IsScaleFree) {
  for (double scale : {1e-30, 1e30}) {
    SCOPED_TRACE(scale);
    expect_exact({300, 400}, scale);
    expect_approximate({1040, 1040}, scale);
  }
}

TEST(AnalyzeLowRank, ManyRanksAtOnce) {
  const MatrixShape shape{300, 400};
  const Spectrum slow = spectra()[1];
  const auto errors = errors_of(matrix_of(shape, slow.singular), shape, ranks(90));
  for (std::size_t rank = 1; rank <= 90; ++rank) {
    const double expected = tail_of(slow.singular, rank);
    EXPECT_NEAR(errors[rank - 1], expected, 1e-4 * expected) << rank;
  }
}

TEST(AnalyzeLowRank, FullRankLosesNothing) {
  const auto values = random_values(12 * 20, 1);
  for (const MatrixShape shape : {MatrixShape{12, 20}, MatrixShape{20, 12}}) {
    const auto errors = errors_of(values, shape, {"low_rank:11", "low_rank:12", "low_rank:400"});
    EXPECT_GT(errors[0], 0.1);
    EXPECT_EQ(errors[1], 0);
    EXPECT_EQ(errors[2], 0);
  }
}

// A diagonal of equal values: every direction is as good as every other.
TEST(AnalyzeLowRank, Identity) {
  constexpr std::size_t kSide = 200;
  std::vector<float> identity(kSide * kSide, 0.0f);
  for (std::size_t i = 0; i < kSide; ++i) identity[i * kSide + i] = 1;
  const auto errors = errors_of(identity, {kSide, kSide}, ranks(10));
  for (std::size_t rank = 1; rank <= 10; ++rank) {
    EXPECT_NEAR(errors[rank - 1], std::sqrt(static_cast<double>(kSide - rank)), 1e-4);
  }
}

TEST(Analyze, OrderOfTheLevelsDoesNotMatter) {
  const auto values = random_values(64 * 96, 3);
  auto spellings = kTopK;
  spellings.insert(spellings.end(), kQuantize.begin(), kQuantize.end());
  spellings.insert(spellings.end(), kEntropy.begin(), kEntropy.end());
  for (const std::string& rank : ranks(6)) spellings.push_back(rank);
  spellings.push_back("dense");
  const auto errors = errors_of(values, {64, 96}, spellings);
  auto backwards = spellings;
  std::reverse(backwards.begin(), backwards.end());
  auto again = errors_of(values, {64, 96}, backwards);
  std::reverse(again.begin(), again.end());
  EXPECT_EQ(errors, again);
  for (std::size_t i = 0; i < spellings.size(); ++i) {
    if (levels_of({spellings[i]})[0].method == Method::low_rank) continue;
    EXPECT_EQ(errors_of(values, {64, 96}, {spellings[i]})[0], errors[i]) << spellings[i];
  }
}

// Every instruction set of this CPU gives the same bits.
TEST(Analyze, DoesNotDependOnTheInstructionSet) {
  const auto values = random_values(1040 * 1100, 3);
  auto spellings = kTopK;
  spellings.insert(spellings.end(), kQuantize.begin(), kQuantize.end());
  spellings.insert(spellings.end(), kEntropy.begin(), kEntropy.end());
  for (const std::string& rank : ranks(4)) spellings.push_back(rank);
  for (const MatrixShape shape : {MatrixShape{1040, 1100}, MatrixShape{5200, 220}}) {
    const auto expected = errors_of(values, shape, spellings);
    for (std::int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
      hwy::SetSupportedTargetsForTest(rest & -rest);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      const auto errors = errors_of(values, shape, spellings);
      hwy::SetSupportedTargetsForTest(0);
      hwy::GetChosenTarget().DeInit();
      EXPECT_EQ(std::memcmp(errors.data(), expected.data(), errors.size() * sizeof(double)), 0)
          << hwy::TargetName(rest & -rest);
    }
  }
}

}  // namespace
}  // namespace lgreco
