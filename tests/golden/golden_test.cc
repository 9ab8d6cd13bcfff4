// Golden payloads: the bytes that a format version stands for.
//
// Per case two files lie beside this one: NAME.payload, what `encode` writes for input(count), and
// NAME.values, the fp32 values that `decode_add` makes of it. They change only together with the
// wire version of the method, and docs/wire_format.md. LGRECO_WRITE_GOLDEN=1 rewrites them. Those
// of earlier versions stay, in folders of their own (v1, v2), to show that they are refused.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "lgreco/compressor.h"
#include "lgreco/status.h"
#include "src/base/random.h"

namespace lgreco {
namespace {

using Bytes = std::vector<std::byte>;

struct Case {
  const char* name;
  const char* level;
  std::size_t count;
  std::size_t column = 1;  // of a factor, for a linear level
};

// 203 values are three quantisation buckets of 64 and a short one, whose last byte is not full.
constexpr Case kCases[] = {
    {"dense", "dense", 200},
    {"cast_bf16", "cast:bf16", 200},
    {"cast_fp16", "cast:fp16", 200},
    {"quantize_1_stochastic", "quantize:1:bucket=64:rounding=stochastic", 203},
    {"quantize_2_stochastic", "quantize:2:bucket=64:rounding=stochastic", 203},
    {"quantize_3_stochastic", "quantize:3:bucket=64:rounding=stochastic", 203},
    {"quantize_4_stochastic", "quantize:4:bucket=64:rounding=stochastic", 203},
    {"quantize_8_stochastic", "quantize:8:bucket=64:rounding=stochastic", 203},
    {"quantize_1_nearest", "quantize:1:bucket=64", 203},
    {"quantize_2_nearest", "quantize:2:bucket=64", 203},
    {"quantize_3_nearest", "quantize:3:bucket=64", 203},
    {"quantize_4_nearest", "quantize:4:bucket=64", 203},
    {"quantize_5_nearest", "quantize:5:bucket=64", 203},
    {"quantize_6_nearest", "quantize:6:bucket=64", 203},
    {"quantize_7_nearest", "quantize:7:bucket=64", 203},
    {"quantize_8_nearest", "quantize:8:bucket=64", 203},
    {"topk_bf16_1_of_1", "topk:1:values=bf16", 1},
    {"topk_bf16_20_of_200", "topk:0.1:values=bf16", 200},
    {"topk_bf16_21_of_2077", "topk:0.01:values=bf16", 2077},
    {"topk_bf16_150_of_200", "topk:0.75:values=bf16", 200},
    {"topk_2_bits_1_of_1", "topk:1:values=2", 1},
    {"topk_2_bits_20_of_200", "topk:0.1:values=2", 200},
    {"topk_4_bits_600_of_2000", "topk:0.3", 2000},
    {"topk_5_bits_150_of_200", "topk:0.75:values=5", 200},
    {"topk_fp32_20_of_200", "topk:0.1:values=fp32", 200},
    {"topk_fp32_4_of_4001", "topk:0.001:values=fp32", 4001},
    {"entropy_0.01_of_600", "entropy:0.01", 600},
    {"entropy_0.1_of_9000", "entropy:0.1", 9000},
    {"entropy_0.5_of_203", "entropy:0.5", 203},
    {"entropy_1_of_1", "entropy:1", 1},
    {"entropy_2_of_2049", "entropy:2", 2049},
    {"entropy_2_of_6150", "entropy:2", 6150},
    {"entropy_8_of_1", "entropy:8", 1},
    {"entropy_8_of_2077", "entropy:8", 2077},
    // Two columns and a part of one, each of a block of 256 and a short one.
    {"factor_2_bits", "low_rank:1:factors=2", 700, 301},
    {"factor_3_bits", "low_rank:1:factors=3", 700, 301},
    {"factor_4_bits", "low_rank:1:factors=4", 700, 301},
    {"factor_6_bits", "low_rank:1:factors=6", 700, 301},
    {"factor_8_bits", "low_rank:1:factors=8", 700, 301},
};

constexpr RandomKey kKey{.seed = 1, .step = 2, .layer = 3};

// Value i is m * 2^-e: m = (mix64(i) mod 2^24) - 2^23, e = 23 + (floor(mix64(i) / 2^32) mod 8).
// Exact in fp32, with a sign and a spread of magnitudes.
std::vector<float> input(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t bits = mix64(i);
    const auto mantissa = static_cast<std::int32_t>(bits & 0xFFFFFFu) - (1 << 23);
    const auto exponent = 23 + static_cast<int>((bits >> 32) % 8);
    values[i] = std::ldexp(static_cast<float>(mantissa), -exponent);
  }
  return values;
}

bool rewriting() { return std::getenv("LGRECO_WRITE_GOLDEN") != nullptr; }

std::string path_of(const Case& golden, const char* suffix, const char* folder = "/") {
  return std::string(LGRECO_GOLDEN) + folder + golden.name + suffix;
}

Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path << " is missing";
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  Bytes bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

void write(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good()) << path;
}

std::unique_ptr<CodedCompressor> codec_of(const Case& golden) {
  const Level level = parse_level(golden.level);
  if (is_coded(level.method)) return coded_compressor(level);
  return factor_codec(level, {golden.column, 1}, 0);
}

Bytes encode(const Case& golden) {
  const auto codec = codec_of(golden);
  Bytes payload(codec->payload_bytes(golden.count));
  EXPECT_TRUE(codec->encode(input(golden.count), kKey, 0, payload));
  return payload;
}

Status decode(const Case& golden, const Bytes& payload, std::vector<float>& values) {
  values.assign(golden.count, 0.0f);
  return codec_of(golden)->decode_add(payload, values);
}

const Case& case_of(std::string_view name) {
  for (const Case& golden : kCases) {
    if (golden.name == name) return golden;
  }
  throw std::invalid_argument(std::string(name));
}

testing::AssertionResult contains(const std::string& text, const char* part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << text << "' does not contain '" << part << "'";
}

class GoldenTest : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Payloads, GoldenTest, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

TEST_P(GoldenTest, EncodesToTheSameBytes) {
  const Bytes payload = encode(GetParam());
  if (rewriting()) write(path_of(GetParam(), ".payload"), payload);
  EXPECT_EQ(payload, read(path_of(GetParam(), ".payload")));
}

TEST_P(GoldenTest, DecodesToTheSameValues) {
  std::vector<float> values;
  const Status status = decode(GetParam(), read(path_of(GetParam(), ".payload")), values);
  ASSERT_TRUE(status.is_ok()) << status.reason();
  const auto bytes = std::as_bytes(std::span(values));
  if (rewriting()) write(path_of(GetParam(), ".values"), bytes);
  EXPECT_EQ(Bytes(bytes.begin(), bytes.end()), read(path_of(GetParam(), ".values")));
}

TEST_P(GoldenTest, MayStartAtAnyAddress) {
  const Bytes payload = read(path_of(GetParam(), ".payload"));
  std::vector<float> expected, values(GetParam().count, 0.0f);
  ASSERT_TRUE(decode(GetParam(), payload, expected).is_ok());
  const auto codec = codec_of(GetParam());
  for (std::size_t shift = 1; shift < 4; ++shift) {
    Bytes shifted(payload.size() + shift);
    const auto place = std::span(shifted).subspan(shift);
    ASSERT_TRUE(codec->encode(input(GetParam().count), kKey, 0, place));
    EXPECT_TRUE(std::equal(payload.begin(), payload.end(), place.begin()));
    std::fill(values.begin(), values.end(), 0.0f);
    ASSERT_TRUE(codec->decode_add(place, values).is_ok());
    EXPECT_EQ(values, expected);
  }
}

TEST_P(GoldenTest, RefusesAnotherLength) {
  Bytes payload = read(path_of(GetParam(), ".payload"));
  std::vector<float> values;
  payload.pop_back();
  EXPECT_FALSE(decode(GetParam(), payload, values).is_ok());
  payload.insert(payload.end(), 2, std::byte{0});
  EXPECT_FALSE(decode(GetParam(), payload, values).is_ok());
}

/// A payload with one field overwritten; the place is given in bytes or bits from the start.
class Damaged {
 public:
  explicit Damaged(const char* name) : golden_(case_of(name)), payload_(encode(golden_)) {}

  template <typename T>
  Damaged& put(std::size_t at, T value) {
    std::memcpy(payload_.data() + at, &value, sizeof value);
    return *this;
  }
  Damaged& flip(std::size_t byte, unsigned bit) {
    payload_[byte] ^= std::byte{1} << bit;
    return *this;
  }
  // The reason for refusing it; empty when it was accepted.
  std::string reason() const {
    std::vector<float> values;
    return decode(golden_, payload_, values).reason();
  }

 private:
  const Case& golden_;
  Bytes payload_;
};

// Of every bucket, whatever was in it: the header of version 1 is none of a uniform grid of later
// ones. Those of nearest rounding are of another length.
TEST(EarlierVersion, OfQuantizeIsRefusedByName) {
  std::size_t stochastic = 0, nearest = 0;
  for (const char* folder : {"/v1/", "/v2/"}) {
    for (const Case& golden : kCases) {
      const std::string path = path_of(golden, ".payload", folder);
      if (!std::filesystem::exists(path)) continue;
      const Level level = parse_level(golden.level);
      ASSERT_EQ(level.method, Method::quantize);
      const Bytes payload = read(path);
      const Bytes present = read(path_of(golden, ".payload"));
      std::vector<float> values;
      if (level.rounding == Rounding::nearest) {
        ++nearest;
        EXPECT_TRUE(contains(decode(golden, payload, values).reason(), "[quantize] payload has"));
        continue;
      }
      ++stochastic;
      ASSERT_EQ(payload.size(), present.size());
      const std::size_t bucket = 4 + static_cast<std::size_t>(8 * level.parameter);  // 64 values
      for (std::size_t at = 0; at < payload.size(); at += bucket) {
        Bytes mixed = present;
        std::copy_n(payload.begin() + static_cast<long>(at), 4,
                    mixed.begin() + static_cast<long>(at));
        const std::string reason = decode(golden, mixed, values).reason();
        EXPECT_TRUE(contains(reason, "[quantize]")) << path << " at " << at;
        EXPECT_TRUE(contains(reason, "wire version 3")) << path << " at " << at;
      }
    }
  }
  EXPECT_EQ(stochastic, 5u);
  EXPECT_EQ(nearest, 10u);
}

// What version 1 made of a bucket of equal values: unit 0, and `low` of either sign or none.
TEST(EarlierVersion, OfQuantizeIsRefusedForEqualValues) {
  for (std::uint16_t low : {std::uint16_t{0}, std::uint16_t{0x3F80}, std::uint16_t{0xBF80}}) {
    Damaged payload("quantize_4_stochastic");
    EXPECT_TRUE(contains(payload.put(0, low).put(2, std::uint16_t{0}).reason(), "wire version 3"));
  }
}

constexpr std::uint16_t kBf16Infinity = 0x7F80, kBf16Nan = 0x7FC0, kFp16Infinity = 0x7C00;

TEST(CorruptedDense, Value) {
  for (float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    EXPECT_TRUE(contains(Damaged("dense").put(4 * 199, bad).reason(), "[dense]"));
  }
}

TEST(CorruptedCast, Value) {
  EXPECT_TRUE(contains(Damaged("cast_bf16").put(2 * 7, kBf16Infinity).reason(), "[cast]"));
  EXPECT_TRUE(contains(Damaged("cast_bf16").put(2 * 7, kBf16Nan).reason(), "[cast]"));
  EXPECT_TRUE(contains(Damaged("cast_fp16").put(2 * 199, kFp16Infinity).reason(), "[cast]"));
}

// Buckets of 64 three-bit codes: 4 + 24 bytes, three times, then 4 + 5 bytes for 11 codes.
constexpr const char* kQuantize = "quantize_3_stochastic";
constexpr std::uint16_t kZero = 0, kMinusZero = 0x8000;

TEST(CorruptedQuantize, High) {
  for (std::size_t bucket : {0, 3}) {
    for (std::uint16_t bad : {kBf16Infinity, kBf16Nan, std::uint16_t{0xBF80}, kMinusZero}) {
      EXPECT_TRUE(contains(Damaged(kQuantize).put(28 * bucket, bad).reason(), "range"));
    }
    EXPECT_EQ(Damaged(kQuantize).put(28 * bucket, kZero).reason(), "");
  }
}

TEST(CorruptedQuantize, Low) {
  for (std::size_t bucket : {0, 3}) {
    for (std::uint16_t bad : {std::uint16_t{kBf16Infinity | kMinusZero},
                              std::uint16_t{kBf16Nan | kMinusZero}, std::uint16_t{0x3F80}, kZero}) {
      EXPECT_TRUE(contains(Damaged(kQuantize).put(28 * bucket + 2, bad).reason(), "range"));
    }
    EXPECT_EQ(Damaged(kQuantize).put(28 * bucket + 2, kMinusZero).reason(), "");
  }
}

TEST(CorruptedQuantize, SpareBits) {
  EXPECT_EQ(Damaged(kQuantize).flip(3 * 28 + 4 + 4, 0).reason(), "") << "the last code";
  for (unsigned bit : {1u, 7u}) {  // 33 bits are used
    EXPECT_TRUE(contains(Damaged(kQuantize).flip(3 * 28 + 4 + 4, bit).reason(), "spare"));
  }
}

// Buckets of 64 codes: 2 + 24 bytes of three bits, three times, then 2 + 5 for 11 codes.
TEST(CorruptedQuantizeNearest, Grid) {
  const char* name = "quantize_3_nearest";
  for (std::size_t bucket : {0, 3}) {
    // Infinite and NaN scales, and one whose largest value would be infinite.
    for (unsigned bad : {0x7F80u, 0xFF80u, 0x7FC0u, 0x7F7Cu}) {
      const auto header = static_cast<std::uint16_t>(bad);
      EXPECT_TRUE(contains(Damaged(name).put(26 * bucket, header).reason(), "grid"));
    }
    EXPECT_EQ(Damaged(name).put(26 * bucket, kZero).reason(), "");
  }
  // With one bit, the last two bits of a header say at most which side there is.
  EXPECT_EQ(Damaged("quantize_1_nearest").put(0, std::uint16_t{0xBF81}).reason(), "");
  for (unsigned bad : {0x3F81u, 0xBF82u, 0xBF83u}) {
    const auto header = static_cast<std::uint16_t>(bad);
    EXPECT_TRUE(contains(Damaged("quantize_1_nearest").put(0, header).reason(), "grid"));
  }
}

TEST(CorruptedQuantizeNearest, SpareBits) {
  const char* name = "quantize_3_nearest";
  EXPECT_EQ(Damaged(name).flip(3 * 26 + 2 + 4, 0).reason(), "") << "the last code";
  for (unsigned bit : {1u, 7u}) {  // 33 bits are used
    EXPECT_TRUE(contains(Damaged(name).flip(3 * 26 + 2 + 4, bit).reason(), "spare"));
  }
}

// 20 of 200: l = 3, so 60 low bits in 8 bytes, 20 + 24 high bits in 6 bytes, then the values.
constexpr const char* kTopK = "topk_bf16_20_of_200";

TEST(CorruptedTopK, LowPartOutOfOrder) {
  // Neighbours that share their high part: give the second the low bits of the first.
  const Bytes payload = encode(case_of(kTopK));
  std::uint64_t low = 0, high = 0;
  std::memcpy(&low, payload.data(), 8);
  std::memcpy(&high, payload.data() + 8, 6);
  std::size_t second = 0;  // of the first two neighbouring ones
  for (std::size_t bit = 0; second == 0; ++bit) {
    ASSERT_LT(bit, 43u) << "no such neighbours";
    if ((high >> bit & 3) == 3) {
      second = static_cast<std::size_t>(std::popcount(high & ((std::uint64_t{2} << bit) - 1)));
    }
  }
  const std::uint64_t first_low = low >> (3 * (second - 1)) & 7;
  low = (low & ~(std::uint64_t{7} << (3 * second))) | first_low << (3 * second);
  EXPECT_TRUE(contains(Damaged(kTopK).put(0, low).reason(), "out of order"));
}

TEST(CorruptedTopK, LowPartSpareBits) {
  for (unsigned bit : {4u, 7u}) {
    EXPECT_TRUE(contains(Damaged(kTopK).flip(7, bit).reason(), "spare"));
  }
}

TEST(CorruptedTopK, NumberOfOnesInTheHighPart) {
  for (std::size_t byte = 8; byte < 14; ++byte) {
    for (unsigned bit = 0; bit < (byte == 13 ? 4u : 8u); ++bit) {
      EXPECT_TRUE(contains(Damaged(kTopK).flip(byte, bit).reason(), "positions are not 20"));
    }
  }
}

TEST(CorruptedTopK, HighPartSpareBits) {
  // Moves a one behind the end, so that their number stays.
  Damaged damaged(kTopK);
  const auto last = std::to_integer<unsigned>(encode(case_of(kTopK))[13]);
  ASSERT_NE(last, 0u);
  const auto bit = static_cast<unsigned>(std::countr_zero(last));
  EXPECT_TRUE(contains(damaged.flip(13, bit).flip(13, 4).reason(), "spare"));
}

TEST(CorruptedTopK, PositionBehindTheLayer) {
  // 21 of 2077: l = 6, 126 low bits in 16 bytes, 21 + 32 high bits in 7 bytes. The last possible
  // high part is 32, where only 29 of 64 positions exist.
  const Bytes payload = encode(case_of("topk_bf16_21_of_2077"));
  Damaged damaged("topk_bf16_21_of_2077");
  std::uint64_t high = 0;
  std::memcpy(&high, payload.data() + 16, 7);
  const auto last = static_cast<unsigned>(63 - std::countl_zero(high));
  if (last != 52) damaged.flip(16 + last / 8, last % 8).flip(16 + 52 / 8, 52 % 8);
  EXPECT_EQ(Damaged(damaged).put(15, std::uint8_t{0}).reason(), "") << "2048 exists";
  EXPECT_TRUE(contains(damaged.put(15, std::uint8_t{0x3F}).reason(), "out of the layer"));
}

// Behind 14 bytes of positions the base, the header of the only block, 5 bytes of codes.
TEST(CorruptedTopK, FewBits) {
  const char* name = "topk_2_bits_20_of_200";
  for (std::uint16_t bad : {kBf16Infinity, kBf16Nan, kMinusZero, std::uint16_t{0xBF80}}) {
    EXPECT_TRUE(contains(Damaged(name).put(14, bad).reason(), "base"));
  }
  for (std::uint16_t bad :
       {kBf16Infinity, kBf16Nan, std::uint16_t{0x7F7C}, std::uint16_t{0xBF80}}) {
    EXPECT_TRUE(contains(Damaged(name).put(16, bad).reason(), "grid"));
  }
  EXPECT_EQ(Damaged(name).put(14, kZero).put(16, std::uint16_t{0xBF80}).reason(), "");
  EXPECT_TRUE(
      contains(Damaged(name).put(14, kZero).put(16, std::uint16_t{0x3F80}).reason(), "grid"));
  // The positions of 150 of 200 are 44 bytes; 150 codes of 5 bits leave 2 bits of the last byte.
  EXPECT_TRUE(contains(Damaged("topk_5_bits_150_of_200").flip(48 + 93, 6).reason(), "spare"));
}

TEST(CorruptedTopK, Value) {
  for (std::uint16_t bad : {kBf16Infinity, kBf16Nan}) {
    EXPECT_TRUE(contains(Damaged(kTopK).put(14 + 2 * 19, bad).reason(), "not finite"));
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(
      contains(Damaged("topk_fp32_20_of_200").put(14 + 4 * 3, infinity).reason(), "not finite"));
}

// A header, 4 bytes (other, first, raw bits, table, step), and 513 of code.
constexpr const char* kEntropy = "entropy_2_of_2049";

TEST(CorruptedEntropy, Step) {
  const Bytes payload = encode(case_of(kEntropy));
  std::uint32_t header;
  std::memcpy(&header, payload.data(), 4);
  const auto with_step = [&](std::uint32_t step) {
    return Damaged(kEntropy).put(0, (header & 0x1FFFFu) | step << 17).reason();
  };
  for (std::uint32_t bad : {0x0000u, 0x7E80u, 0x7F80u, 0x7FC0u}) {
    EXPECT_TRUE(contains(with_step(bad), "step")) << bad;
  }
  EXPECT_EQ(with_step(header >> 17), "");
  EXPECT_TRUE(contains(with_step(0x7E7F), "too large")) << "the values would not be finite";
}

TEST(CorruptedEntropy, CodeWithoutAStep) {
  EXPECT_TRUE(contains(Damaged(kEntropy).put(0, std::uint32_t{0}).reason(), "without a step"));
  Damaged zeros("entropy_1_of_1");
  EXPECT_EQ(
      zeros.put(0, std::uint32_t{0}).put(4, std::uint32_t{0}).put(8, std::uint16_t{0}).reason(),
      "");
}

TEST(CorruptedEntropy, RawBits) {
  const Bytes payload = encode(case_of(kEntropy));
  const auto raw = static_cast<std::uint8_t>(payload[1]);
  const auto seven = static_cast<std::uint8_t>(raw | 7);
  EXPECT_TRUE(contains(Damaged(kEntropy).put(1, seven).reason(), "raw bits"));
}

TEST(CorruptedEntropy, BitsBetweenTheStreams) {
  const Bytes payload = encode(case_of("entropy_1_of_1"));
  std::size_t zero = 4;
  while (zero < payload.size() && payload[zero] != std::byte{0}) ++zero;
  ASSERT_LT(zero, payload.size()) << "no byte is left over";
  EXPECT_TRUE(
      contains(Damaged("entropy_1_of_1").put(zero, std::uint8_t{16}).reason(), "[entropy]"));
}

// Ones everywhere end nowhere.
TEST(CorruptedEntropy, Streams) {
  Damaged damaged(kEntropy);
  for (std::size_t byte = 4; byte < 4 + 513; ++byte) damaged.put(byte, std::uint8_t{0xFF});
  EXPECT_TRUE(contains(damaged.reason(), "do not end"));
}

}  // namespace
}  // namespace lgreco
