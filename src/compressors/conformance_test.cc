// What every method must do, whatever it is. A new method is tested by its row in the table.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "lgreco/compressor.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

std::vector<float> gaussian(std::size_t count, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = scale * normal(generator);
  return values;
}

double norm(std::span<const float> values) {
  double squares = 0;
  for (float value : values) squares += static_cast<double>(value) * value;
  return std::sqrt(squares);
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

std::vector<std::string> examples(bool coded) {
  std::vector<std::string> spellings;
  for (const MethodRow& row : method_table()) {
    if (row.coded == coded) spellings.emplace_back(row.example);
  }
  return spellings;
}

std::string as_identifier(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(c) ? c : '_';
  return name;
}

std::vector<std::string> coded_spellings() {
  std::vector<std::string> spellings = examples(/*coded=*/true);
  for (const char* more : {"cast:fp16",
                           "quantize:1",
                           "quantize:2",
                           "quantize:3:bucket=64",
                           "quantize:5",
                           "quantize:6",
                           "quantize:7:bucket=4096",
                           "quantize:8",
                           "quantize:1:rounding=stochastic",
                           "quantize:2:rounding=stochastic",
                           "quantize:3:bucket=64:rounding=stochastic",
                           "quantize:4:rounding=stochastic",
                           "quantize:5:rounding=stochastic",
                           "quantize:8:rounding=stochastic",
                           "topk:0.01:values=bf16",
                           "topk:0.5:values=fp32",
                           "topk:0.2:values=2",
                           "topk:0.001:values=3",
                           "topk:0.5:values=5",
                           "topk:0.7:values=8",
                           "topk:1:values=2",
                           "topk:1:values=bf16",
                           "topk:1",
                           "entropy:0.01",
                           "entropy:0.03",
                           "entropy:0.25",
                           "entropy:1",
                           "entropy:3.5",
                           "entropy:8",

                           "quantize:2+4",
                           "low_rank:4:factors=2",
                           "low_rank:4:factors=3",
                           "low_rank:4:factors=5",
                           "low_rank:4:factors=8"}) {
    spellings.emplace_back(more);
  }
  return spellings;
}

constexpr MatrixShape kMatrix{33, 70};

// Of a linear level, what takes its last factor over the wire.
std::unique_ptr<CodedCompressor> codec_of(const Level& level) {
  if (is_coded(level.method)) return coded_compressor(level);
  return factor_codec(level, kMatrix, linear_compressor(level)->rounds() - 1);
}

class CodedTest : public testing::TestWithParam<std::string> {
 protected:
  std::vector<std::byte> encode(std::span<const float> values, std::uint64_t step = 0) const {
    std::vector<std::byte> payload(codec_->payload_bytes(values.size()));
    EXPECT_TRUE(codec_->encode(values, {7, step, 3}, 0, payload));
    return payload;
  }
  std::vector<float> decode(std::span<const std::byte> payload, std::size_t count) const {
    std::vector<float> values(count, 0.0f);
    const Status status = codec_->decode_add(payload, values);
    EXPECT_TRUE(status.is_ok()) << status.reason();
    return values;
  }

  Level level_ = parse_level(GetParam());
  std::unique_ptr<CodedCompressor> codec_ = codec_of(level_);
};

INSTANTIATE_TEST_SUITE_P(Levels, CodedTest, testing::ValuesIn(coded_spellings()), as_identifier);

TEST_P(CodedTest, RoundTripLosesAtMostWhatTheMethodMay) {
  for (std::size_t count : {1, 2, 7, 8, 9, 63, 64, 65, 1023, 1024, 1025, 5000}) {
    const auto values = gaussian(count, static_cast<unsigned>(count));
    const auto decoded = decode(encode(values), count);
    std::vector<float> lost(count);
    for (std::size_t i = 0; i < count; ++i) lost[i] = values[i] - decoded[i];
    // Drawn one-bit codes on a Gaussian lose more than the signal has; nothing loses twice the
    // range.
    const double bound =
        level_.method == Method::quantize && level_.rounding == Rounding::stochastic
            ? 8.0 * std::sqrt(static_cast<double>(count)) /
                  ((1 << static_cast<int>(level_.parameter)) - 1)
            : norm(values);
    EXPECT_LE(norm(lost), bound) << count;
  }
}

TEST_P(CodedTest, NothingIsAZeroBytePayload) {
  EXPECT_EQ(codec_->payload_bytes(0), 0u);
  EXPECT_TRUE(codec_->encode({}, {}, 0, {}));
  EXPECT_TRUE(codec_->decode_add({}, {}).is_ok());
}

TEST_P(CodedTest, ZerosStayZeros) {
  const std::vector<float> zeros(3000, 0.0f);
  EXPECT_EQ(decode(encode(zeros), zeros.size()), zeros);
}

// Padding rows, pruned weights, frozen classes: values between which zeros lie.
std::vector<std::vector<float>> with_zeros(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  const auto normal = gaussian(count, seed + 1);
  std::vector<std::vector<float>> all;
  const auto add = [&](auto value_of, auto is_zero) {
    std::vector<float>& values = all.emplace_back(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = is_zero(i) ? 0.0f : value_of(normal[i]);
  };
  const auto pruned = [&](std::size_t) { return generator() % 10 < 4; };
  const auto rows = [](std::size_t i) { return i / 64 % 3 == 1; };
  add([](float x) { return x; }, pruned);
  add([](float x) { return x; }, rows);
  add([](float x) { return std::abs(x); }, pruned);
  add([](float x) { return -std::abs(x); }, rows);
  add([](float x) { return 5 + x / 100; }, pruned);
  add([](float x) { return -5 + x / 100; }, pruned);
  add([](float x) { return x < 2 ? 1e-3f * x : 1e4f * x; }, pruned);
  add([](float x) { return std::ldexp(x, -130); }, pruned);
  add([](float x) { return x; }, [](std::size_t i) { return i % 1000 != 7; });
  return all;
}

// Exactly, whatever is drawn, and nothing of it is left to a residual.
TEST_P(CodedTest, EveryZeroStaysZero) {
  for (std::size_t count : {1, 65, 1025, 20'000}) {
    std::uint64_t step = 0;
    for (const auto& values : with_zeros(count, 30)) {
      for (int repeat = 0; repeat < 5; ++repeat) {
        SCOPED_TRACE(std::to_string(count) + " values, step " + std::to_string(++step));
        const auto payload = encode(values, step);
        const auto decoded = decode(payload, count);
        auto loss = values;
        std::vector<std::byte> kept(payload.size());
        ASSERT_TRUE(codec_->encode_keep_loss(loss, {}, {7, step, 3}, 0, kept));
        for (std::size_t i = 0; i < count; ++i) {
          if (values[i] != 0) continue;
          ASSERT_EQ(decoded[i], 0) << i;
          ASSERT_EQ(loss[i], 0) << i;
        }
      }
    }
  }
}

// Values of which many are alike, so that no threshold tells them apart.
std::vector<std::vector<float>> with_ties(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  const auto normal = gaussian(count, seed + 1);
  std::vector<std::vector<float>> all;
  const auto add = [&](auto value_of) {
    std::vector<float>& values = all.emplace_back();
    for (const float x : normal) values.push_back(value_of(x));
  };
  add([](float) { return 1.0f; });
  add([](float x) { return x < 0 ? -1.0f : 1.0f; });
  add([&](float x) { return generator() % 10 >= 3 ? 0.0f : x < 0 ? -1.0f : 1.0f; });
  add([](float x) { return std::clamp(3 * x, -1.0f, 1.0f); });
  add([](float x) { return 1 + 1e-3f * x; });
  add([&](float x) { return generator() % 2 == 0 ? 0.5f : x; });
  return all;
}

// With error feedback everything is sent in the end, late as it may be: what is owed of a gradient
// that stays the same does not grow for ever, as a whole or of any value.
TEST_P(CodedTest, ErrorFeedbackStarvesNoValue) {
  if (level_.rounding == Rounding::stochastic) {
    GTEST_SKIP() << "drawn codes are right in the mean, and may lose more than there is";
  }
  constexpr int kSteps = 400;
  for (std::size_t count : {1, 2, 3, 8, 64, 200}) {
    int sample = 0;
    for (const auto& gradient : with_ties(count, 40)) {
      SCOPED_TRACE(std::to_string(count) + " values, sample " + std::to_string(sample++));
      std::vector<std::byte> payload(codec_->payload_bytes(count));
      std::vector<float> owed(count, 0.0f);
      for (std::uint64_t step = 0; step < kSteps; ++step) {
        for (std::size_t i = 0; i < count; ++i) owed[i] += gradient[i];
        const double before = norm(owed);
        ASSERT_TRUE(codec_->encode_keep_loss(owed, {}, {7, step, 3}, 0, payload));
        ASSERT_TRUE(before == 0 || norm(owed) < before) << "nothing is sent in step " << step;
      }
      EXPECT_LE(norm(owed), 0.7 * kSteps * norm(gradient));
      for (std::size_t i = 0; i < count; ++i) {
        if (std::abs(gradient[i]) < 0.5f) continue;  // its turn comes later than the others'
        ASSERT_LE(std::abs(owed[i]), 0.9 * kSteps * std::abs(gradient[i])) << i;
      }
    }
  }
}

TEST_P(CodedTest, SameInputsGiveSameBytesOnAFreshInstance) {
  const auto values = gaussian(4000, 1);
  const auto payload = encode(values);
  const auto fresh = codec_of(level_);
  std::vector<std::byte> again(payload.size());
  ASSERT_TRUE(fresh->encode(values, {7, 0, 3}, 0, again));
  EXPECT_EQ(payload, again);
  std::vector<float> decoded(values.size(), 0.0f);
  ASSERT_TRUE(fresh->decode_add(payload, decoded).is_ok());
  EXPECT_EQ(decoded, decode(payload, values.size()));
}

TEST_P(CodedTest, DecodeAdds) {
  const auto values = gaussian(2000, 2);
  const auto payload = encode(values);
  const auto once = decode(payload, values.size());
  std::vector<float> sum(values.size(), 1.0f);
  ASSERT_TRUE(codec_->decode_add(payload, sum).is_ok());
  for (std::size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(sum[i], 1.0f + once[i], 1e-5);
}

TEST_P(CodedTest, EncodeKeepLossIsAddEncodeAndSubtract) {
  for (std::size_t count : {0, 1, 2, 65, 1023, 1025, 5000, 20'000}) {
    const auto gradient = gaussian(count, 15);
    for (const auto& residual : {std::vector<float>(), gaussian(count, 16, 0.1f)}) {
      auto values = gradient;
      for (std::size_t i = 0; i < residual.size(); ++i) values[i] += residual[i];
      std::vector<std::byte> expected(codec_->payload_bytes(count)), payload(expected.size());
      ASSERT_TRUE(codec_->encode(values, {7, 1, 3}, 40, expected));
      const auto decoded = decode(expected, count);
      for (std::size_t i = 0; i < count; ++i) values[i] -= decoded[i];
      auto in_one = gradient;
      ASSERT_TRUE(codec_->encode_keep_loss(in_one, residual, {7, 1, 3}, 40, payload));
      EXPECT_EQ(payload, expected) << count;
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(in_one[i]), std::bit_cast<std::uint32_t>(values[i]))
            << i << " of " << count;
      }
    }
  }
}

TEST_P(CodedTest, EncodeKeepLossRefusesWhatIsNotFinite) {
  constexpr std::size_t kCount = 2500;
  std::vector<std::byte> payload(codec_->payload_bytes(kCount));
  for (std::size_t at : {0u, 17u, 1023u, 1024u, 2499u}) {
    for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
      auto values = gaussian(kCount, 17), residual = gaussian(kCount, 18);
      residual[at] = bad;
      EXPECT_FALSE(codec_->encode_keep_loss(values, residual, {}, 0, payload)) << at;
      values[at] = bad;
      EXPECT_FALSE(codec_->encode_keep_loss(values, {}, {}, 0, payload)) << at;
    }
  }
}

// C(2^k x) = 2^k C(x), bit for bit: no absolute threshold anywhere.
TEST_P(CodedTest, IsScaleFree) {
  if (GetParam() == "cast:fp16") GTEST_SKIP() << "fp16 has a range of its own";
  const auto values = gaussian(3000, 3);
  const auto expected = decode(encode(values), values.size());
  for (int k : {-80, -20, 20, 100}) {
    std::vector<float> scaled(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) scaled[i] = std::ldexp(values[i], k);
    const auto decoded = decode(encode(scaled), scaled.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(decoded[i], std::ldexp(expected[i], k)) << "2^" << k << " at " << i;
    }
  }
}

TEST_P(CodedTest, RefusesEveryWrongLength) {
  const auto payload = encode(gaussian(100, 4));
  std::vector<float> values(100);
  for (std::size_t length = 0; length < payload.size(); ++length) {
    EXPECT_FALSE(codec_->decode_add(std::span(payload).first(length), values).is_ok());
  }
  std::vector<std::byte> longer = payload;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(codec_->decode_add(longer, values).is_ok());
}

// Any bytes are refused or decoded to finite values; the sanitizers watch the memory.
TEST_P(CodedTest, SurvivesArbitraryBytes) {
  std::mt19937 generator(5);
  std::vector<std::byte> payload(codec_->payload_bytes(700));
  for (int round = 0; round < 300; ++round) {
    for (std::byte& byte : payload) byte = static_cast<std::byte>(generator());
    std::vector<float> values(700, 0.0f);
    if (!codec_->decode_add(payload, values).is_ok()) continue;
    for (float value : values) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST_P(CodedTest, SurvivesDamageToARealPayload) {
  std::mt19937 generator(12);
  const auto payload = encode(gaussian(700, 13));
  for (int round = 0; round < 5000; ++round) {
    auto damaged = payload;
    for (int flips = 1 + round % 3; flips > 0; --flips) {
      damaged[generator() % damaged.size()] ^= std::byte{1} << generator() % 8;
    }
    std::vector<float> values(700, 0.0f);
    if (!codec_->decode_add(damaged, values).is_ok()) continue;
    for (float value : values) ASSERT_TRUE(std::isfinite(value));
  }
}

// payload_bytes is what is written: every byte of it, and none beside it.
TEST_P(CodedTest, WritesThePayloadAndNothingElse) {
  for (std::size_t count : {1, 2, 9, 63, 64, 65, 1023, 1024, 1025, 3000}) {
    const auto values = gaussian(count, 14);
    const auto payload = encode(values);
    for (std::byte before : {std::byte{0}, std::byte{0xFF}}) {
      constexpr std::size_t kGuard = 64;
      std::vector<std::byte> room(payload.size() + 2 * kGuard, before);
      const auto place = std::span(room).subspan(kGuard, payload.size());
      ASSERT_TRUE(codec_->encode(values, {7, 0, 3}, 0, place));
      EXPECT_TRUE(std::equal(place.begin(), place.end(), payload.begin())) << count;
      const auto untouched = [&](std::byte byte) { return byte == before; };
      EXPECT_TRUE(std::all_of(room.begin(), room.begin() + kGuard, untouched)) << count;
      EXPECT_TRUE(std::all_of(room.end() - kGuard, room.end(), untouched)) << count;
    }
  }
}

TEST_P(CodedTest, EqualValuesOfAnyMagnitudeAreRepresented) {
  if (level_.method == Method::cast && level_.values == DType::f16) {
    GTEST_SKIP() << "fp16 has a range of its own";
  }
  for (const float value : {1e-38f, 9.5e37f, 1.5e38f, 3.3e38f}) {
    for (std::size_t count : {1, 600}) {
      const std::vector<float> values(count, -value);
      std::vector<std::byte> payload(codec_->payload_bytes(count));
      EXPECT_TRUE(codec_->encode(values, {7, 0, 3}, 0, payload)) << value << ", " << count;
    }
  }
}

TEST_P(CodedTest, HugeFiniteValuesAreRepresentedOrRefused) {
  std::vector<float> values = gaussian(2000, 6);
  values[17] = std::numeric_limits<float>::max();
  values[1500] = std::numeric_limits<float>::lowest();
  std::vector<std::byte> payload(codec_->payload_bytes(values.size()));
  if (!codec_->encode(values, {}, 0, payload)) return;
  for (float value : decode(payload, values.size())) ASSERT_TRUE(std::isfinite(value));
}

std::vector<std::string> linear_spellings() {
  std::vector<std::string> spellings = examples(/*coded=*/false);
  for (const char* more : {"low_rank:1", "low_rank:7", "low_rank:16", "low_rank:4:factors=bf16",
                           "low_rank:4:factors=8", "low_rank:4:factors=2"}) {
    spellings.emplace_back(more);
  }
  return spellings;
}

class LinearTest : public testing::TestWithParam<std::string> {
 protected:
  static constexpr MatrixShape kShape = kMatrix;
  static constexpr RandomKey kKey{7, 1, 3};

  LinearTest() { codec_->prepare(kShape, kKey, state_); }

  std::vector<float> addend(int round) const {
    return std::vector<float>(codec_->round_floats(kShape, round));
  }

  /// The sums of all rounds as they arrive.
  std::vector<std::vector<float>> rounds_of(std::span<const float> values) const {
    std::vector<std::vector<float>> rounds;
    for (int round = 0; round < codec_->rounds(); ++round) rounds.push_back(addend(round));
    const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
    for (int round = 0; round < codec_->rounds(); ++round) {
      const std::span<float> sum = means[static_cast<std::size_t>(round)];
      codec_->encode_round(round, values, kShape, kKey, state_,
                           std::span(means).first(static_cast<std::size_t>(round)), sum);
      const auto wire = factor_codec(level_, kShape, round);
      std::vector<std::byte> payload(wire->payload_bytes(sum.size()));
      EXPECT_TRUE(wire->encode(sum, kKey, 0, payload));
      std::fill(sum.begin(), sum.end(), 0.0f);
      EXPECT_TRUE(wire->decode_add(payload, sum).is_ok());
    }
    return rounds;
  }

  Level level_ = parse_level(GetParam());
  std::unique_ptr<LinearCompressor> codec_ = linear_compressor(level_);
  LinearState state_;
};

INSTANTIATE_TEST_SUITE_P(Levels, LinearTest, testing::ValuesIn(linear_spellings()), as_identifier);

TEST_P(LinearTest, EncodeFirstRoundIsAddAndEncode) {
  const auto gradient = gaussian(kShape.count(), 19);
  for (const auto& residual : {std::vector<float>(), gaussian(kShape.count(), 20, 0.1f)}) {
    auto values = gradient;
    for (std::size_t i = 0; i < residual.size(); ++i) values[i] += residual[i];
    auto expected = addend(0);
    codec_->encode_round(0, values, kShape, kKey, state_, {}, expected);
    auto sum = gradient;
    auto in_one = addend(0);
    ASSERT_TRUE(codec_->encode_first_round(sum, residual, kShape, kKey, state_, in_one));
    EXPECT_TRUE(same_bits(sum, values));
    EXPECT_TRUE(same_bits(in_one, expected));
  }
}

TEST_P(LinearTest, EncodeFirstRoundRefusesWhatIsNotFinite) {
  auto out = addend(0);
  for (std::size_t at = 0; at < kShape.count(); at += 37) {
    for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
      auto values = gaussian(kShape.count(), 21), residual = gaussian(kShape.count(), 22);
      residual[at] = bad;
      EXPECT_FALSE(codec_->encode_first_round(values, residual, kShape, kKey, state_, out)) << at;
      values[at] = bad;
      EXPECT_FALSE(codec_->encode_first_round(values, {}, kShape, kKey, state_, out)) << at;
    }
  }
}

// Also where the warm factor is zero at the place of the value.
TEST_P(LinearTest, EncodeFirstRoundRefusesInfinityTimesZero) {
  std::fill(state_.factor.begin(), state_.factor.end(), 0.0f);
  auto values = gaussian(kShape.count(), 23);
  values[100] = INFINITY;
  auto out = addend(0);
  EXPECT_FALSE(codec_->encode_first_round(values, {}, kShape, kKey, state_, out));
}

TEST_P(LinearTest, DecodeKeepLossIsDecodeAndSubtract) {
  const auto gradient = gaussian(kShape.count(), 24);
  auto rounds = rounds_of(gradient);
  const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
  std::vector<float> sent(kShape.count()), expected(kShape.count());
  codec_->decode(kShape, kKey, means, sent);
  for (std::size_t i = 0; i < sent.size(); ++i) expected[i] = gradient[i] - sent[i];
  auto values = gradient;
  std::vector<float> residual(kShape.count());
  codec_->decode_keep_loss(kShape, kKey, means, means.back(), values, residual);
  EXPECT_TRUE(same_bits(values, sent));
  EXPECT_TRUE(same_bits(residual, expected));
  values = gradient;
  codec_->decode_keep_loss(kShape, kKey, means, means.back(), values, values);
  EXPECT_TRUE(same_bits(values, expected));
}

// What this rank has sent may differ from the mean: then it is that which is taken out.
TEST_P(LinearTest, DecodeKeepLossKeepsWhatTheOwnPartLacks) {
  const auto gradient = gaussian(kShape.count(), 26);
  auto rounds = rounds_of(gradient);
  const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
  const auto own = gaussian(rounds.back().size(), 27);
  std::vector<float> average(kShape.count()), sent(kShape.count()), residual(kShape.count());
  codec_->decode(kShape, kKey, means, average);
  auto values = gradient;
  codec_->decode_keep_loss(kShape, kKey, means, own, values, residual);
  std::copy(own.begin(), own.end(), rounds.back().begin());
  codec_->decode(kShape, kKey, means, sent);
  EXPECT_TRUE(same_bits(values, average));
  for (std::size_t i = 0; i < sent.size(); ++i) ASSERT_EQ(residual[i], gradient[i] - sent[i]) << i;
}

TEST_P(LinearTest, SaysWhatTheStateHolds) {
  EXPECT_EQ(state_.factor.size(), codec_->state_floats(kShape));
  codec_->prepare(kShape, {7, 2, 3}, state_);
  EXPECT_EQ(state_.factor.size(), codec_->state_floats(kShape));
}

TEST_P(LinearTest, NoResultExceedsItsBound) {
  for (const float scale : {1e-30f, 1.0f, 1e30f}) {
    const auto values = gaussian(kShape.count(), 25, scale);
    auto rounds = rounds_of(values);
    const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
    std::vector<float> decoded(kShape.count());
    codec_->decode(kShape, kKey, means, decoded);
    const double bound = codec_->result_bound(means);
    for (const float value : decoded) ASSERT_LE(std::abs(double{value}), bound);
  }
}

// A row or column of zeros is one of the product, too.
TEST_P(LinearTest, ZeroRowsAndColumnsStayZero) {
  const auto is_zero = [](std::size_t i) {
    const std::size_t row = i / kShape.cols, column = i % kShape.cols;
    return row % 5 == 0 || row == kShape.rows - 1 || column % 7 == 3;
  };
  for (int step = 0; step < 5; ++step) {
    auto values = gaussian(kShape.count(), 25 + static_cast<unsigned>(step));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (is_zero(i)) values[i] = 0;
    }
    auto rounds = rounds_of(values);
    const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
    std::vector<float> residual(values.size());
    codec_->decode_keep_loss(kShape, kKey, means, means.back(), values, residual);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!is_zero(i)) continue;
      ASSERT_EQ(values[i], 0) << i;
      ASSERT_EQ(residual[i], 0) << i;
    }
    codec_->commit(kShape, kKey, means, state_);
  }
}

// Two points are one beside zero: the farther side is sent, the other one waits in the residual.
TEST(Quantize, OneBitSendsTheFartherSide) {
  const auto codec = coded_compressor(parse_level("quantize:1:bucket=1024:rounding=stochastic"));
  for (float sign : {1.0f, -1.0f}) {
    auto values = gaussian(1024, 11);
    values[5] = 4 * sign;
    std::vector<std::byte> payload(codec->payload_bytes(values.size()));
    ASSERT_TRUE(codec->encode(values, {1, 2, 3}, 0, payload));
    std::vector<float> decoded(values.size(), 0.0f);
    ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok());
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_TRUE(decoded[i] == 0 || (decoded[i] == 4 * sign && values[i] * sign > 0)) << i;
    }
  }
}

std::vector<float> decoded_with(const char* level, std::span<const float> values) {
  const auto codec = coded_compressor(parse_level(level));
  std::vector<std::byte> payload(codec->payload_bytes(values.size()));
  EXPECT_TRUE(codec->encode(values, {1, 2, 3}, 0, payload));
  std::vector<float> decoded(values.size(), 0.0f);
  EXPECT_TRUE(codec->decode_add(payload, decoded).is_ok());
  return decoded;
}

// Scaled signs, within what 5 bits of a mantissa can say.
TEST(Quantize, OneBitToNearestIsTheMeanWithItsSign) {
  const auto values = gaussian(512, 11);
  double mean = 0;
  for (float value : values) mean += std::abs(static_cast<double>(value)) / 512;
  const auto decoded = decoded_with("quantize:1", values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(decoded[i], std::copysign(mean, values[i]), mean / 50);
  }
}

// Where there are zeros, one of the sides waits, and it is not always the same.
TEST(Quantize, OneBitWithZerosSendsOneSide) {
  for (float sign : {1.0f, -1.0f}) {
    auto values = gaussian(512, 11);
    values[5] = 4 * sign;
    values[7] = 0;
    const auto decoded = decoded_with("quantize:1", values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_TRUE(decoded[i] == 0 || (decoded[i] == decoded[5] && values[i] * sign > 0)) << i;
    }
    EXPECT_GT(decoded[5] * sign, 1);
    EXPECT_EQ(decoded[7], 0);
  }
}

// Shares of the energy that are left: Max 1960, table I, but for what 2 bytes a bucket cannot say.
TEST(Quantize, ToNearestLosesWhatALloydMaxQuantiserDoes) {
  const auto values = gaussian(1 << 18, 31);
  const double of_normal[] = {.3634, .1175, .03454, .009497, .002499, .0006442, .0001635, .0000412};
  for (int bits = 1; bits <= 8; ++bits) {
    auto lost = values;
    const auto codec = coded_compressor(parse_level("quantize:" + std::to_string(bits)));
    std::vector<std::byte> payload(codec->payload_bytes(values.size()));
    ASSERT_TRUE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
    const double share = std::pow(norm(lost) / norm(values), 2);
    EXPECT_LT(share, (bits < 8 ? 1.01 : 1.15) * of_normal[bits - 1]) << bits;
  }
}

TEST(Quantize, StochasticRoundingIsUnbiased) {
  const auto codec = coded_compressor(parse_level("quantize:2:rounding=stochastic"));
  const auto values = gaussian(256, 8);
  constexpr int kTrials = 4000;
  std::vector<double> mean(values.size(), 0.0);
  double unit = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<std::byte> payload(codec->payload_bytes(values.size()));
    ASSERT_TRUE(codec->encode(values, {1, static_cast<std::uint64_t>(trial), 0}, 0, payload));
    std::vector<float> decoded(values.size(), 0.0f);
    ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok());
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += decoded[i] / kTrials;
    if (trial == 0) {
      const auto [low, high] = std::minmax_element(values.begin(), values.end());
      unit = (*high - *low) / 3.0;
    }
  }
  // A draw has a standard deviation of at most unit / 2; five standard errors of the mean.
  for (std::size_t i = 0; i < mean.size(); ++i) {
    EXPECT_NEAR(mean[i], values[i], 5 * 0.5 * unit / std::sqrt(kTrials)) << i;
  }
}

// Cutting a layer in pieces changes the ranges, never the random numbers.
TEST(Quantize, ElementDrawsTheSameNumberInAnyPiece) {
  const auto codec = coded_compressor(parse_level("quantize:3:rounding=stochastic"));
  const auto values = gaussian(2048, 9);
  std::vector<std::byte> whole(codec->payload_bytes(2048));
  ASSERT_TRUE(codec->encode(values, {5, 6, 7}, 0, whole));
  std::vector<std::byte> half(codec->payload_bytes(1024));
  ASSERT_TRUE(codec->encode(std::span(values).subspan(1024), {5, 6, 7}, 1024, half));
  EXPECT_TRUE(std::equal(half.begin(), half.end(), whole.begin() + static_cast<long>(half.size())));
}

// One value, equal values, values that differ by orders of magnitude, zeros that are kept.
TEST(TopK, FewBitsSayAnyMagnitudes) {
  const auto of = [](std::size_t count, auto value_of) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = (i % 3 == 0 ? -1.0f : 1.0f) * value_of(i);
    return values;
  };
  for (float scale : {1e-38f, 1e-20f, 1.0f, 1e20f, 1e37f}) {
    for (const char* level : {"topk:0.5:values=2", "topk:0.5:values=3", "topk:0.5:values=8"}) {
      SCOPED_TRACE(std::string(level) + " of " + std::to_string(scale));
      EXPECT_NEAR(decoded_with(level, std::vector{0.0f, 3.3f * scale})[1] / scale, 3.3f, 0.05f);
      const auto equal = decoded_with(level, of(2000, [&](std::size_t) { return 3.3f * scale; }));
      for (std::size_t i = 0; i < 1000; ++i) {
        ASSERT_NEAR(equal[i] / scale, i % 3 == 0 ? -3.3f : 3.3f, 0.05f);
      }
      const auto sparse = of(2000, [&](std::size_t i) { return i % 7 == 0 ? scale : 0.0f; });
      const auto decoded = decoded_with(level, sparse);
      for (std::size_t i = 0; i < sparse.size(); ++i) {
        ASSERT_TRUE(sparse[i] != 0 || decoded[i] == 0) << i;
      }
    }
  }
}

TEST(TopK, KeepsTheLargest) {
  const auto codec = coded_compressor(parse_level("topk:0.01:values=fp32"));
  auto values = gaussian(1000, 10);
  for (std::size_t i = 0; i < 10; ++i) values[97 * i] = 100.0f + static_cast<float>(i);
  std::vector<std::byte> payload(codec->payload_bytes(values.size()));
  ASSERT_TRUE(codec->encode(values, {}, 0, payload));
  std::vector<float> decoded(values.size(), 0.0f);
  ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok());
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(decoded[i], i % 97 == 0 && i < 970 ? values[i] : 0.0f);
  }
}

}  // namespace
}  // namespace lgreco
