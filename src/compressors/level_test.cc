#include "lgreco/level.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lgreco/compressor.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

LayerSpec layer(std::vector<std::int64_t> shape, DType dtype = DType::f32) {
  return {.name = "layer", .shape = std::move(shape), .dtype = dtype};
}

TEST(Level, SpellingsRoundTrip) {
  for (const char* spelling : {"dense",
                               "cast:bf16",
                               "cast:fp16",
                               "quantize:1",
                               "quantize:4:bucket=1024:rounding=stochastic",
                               "quantize:8:rounding=stochastic",
                               "topk:0.01",
                               "topk:0.001:values=fp32",
                               "topk:0.01:values=2",
                               "topk:0.01:values=bf16",
                               "low_rank:4",
                               "low_rank:32:min_ratio=1.5",
                               "low_rank:4:factors=bf16",
                               "low_rank:4:min_ratio=1:factors=bf16",
                               "low_rank:4:factors=8",
                               "low_rank:4:min_ratio=1:factors=2",
                               "quantize:2+4",
                               "quantize:4+2:bucket=256",
                               "topk:0.03+0.1",
                               "topk:0.1+0.03:values=fp32"}) {
    EXPECT_EQ(to_string(parse_level(spelling)), spelling);
  }
  for (const MethodRow& row : method_table()) {
    EXPECT_EQ(to_string(parse_level(row.example)), row.example);
    EXPECT_EQ(parse_level(row.example).method, row.method);
  }
}

TEST(Level, DefaultsAreNotSpelled) {
  EXPECT_EQ(to_string(parse_level("quantize:4:bucket=512:rounding=nearest")), "quantize:4");
  EXPECT_EQ(to_string(parse_level("topk:0.1:values=4")), "topk:0.1");
  EXPECT_EQ(to_string(parse_level("low_rank:4:factors=fp32")), "low_rank:4");
}

TEST(Level, RefusesWhatItDoesNotKnow) {
  for (const char* spelling : {"",
                               "sparse:4",
                               "quantize",
                               "quantize:",
                               "quantize:0",
                               "quantize:9",
                               "quantize:4.5",
                               "quantize:four",
                               "quantize:4:bucket=7",
                               "quantize:4:colour=red",
                               "quantize:4:nearest",
                               "quantize:4:rounding=up",
                               "topk:0",
                               "topk:1.5",
                               "topk:0.1:values=1",
                               "topk:0.1:values=9",
                               "topk:0.1:values=2.5",
                               "topk:-1",
                               "topk:nan",
                               "low_rank:0",
                               "low_rank:-1",
                               "low_rank:4:min_ratio=0",
                               "low_rank:4:factors=fp16",
                               "low_rank:4:factors=1",
                               "low_rank:4+8",
                               "cast:bf16+fp16",
                               "quantize:2+9",
                               "quantize:2+",
                               "quantize:+2",
                               "quantize:2+2.5",
                               "quantize:2+0",
                               "quantize:2+3+4",
                               "topk:0.1+0",
                               "low_rank:4:factors=9",
                               "low_rank:4:factors=4.5",
                               "low_rank:4:factors=",
                               "topk:0.01:factors=bf16",
                               "cast:fp32",
                               "cast",
                               "low_rank:4:bucket=512",
                               "low_rank:inf",
                               "quantize:4:bucket=1e99"}) {
    EXPECT_THROW((void)parse_level(spelling), ConfigError) << spelling;
  }
}

TEST(Level, MessagesNameThePossibilities) {
  try {
    (void)parse_level("sparse:4");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("low_rank"), std::string::npos) << error.what();
  }
}

// min_ratio * (n + m) * r < n * m
TEST(Level, OneEncodingHasOneParameter) {
  Level rank = parse_level("low_rank:4");
  rank.gather_parameter = 8;
  EXPECT_THROW(check(rank), ConfigError);
  Level bits = parse_level("quantize:2");
  bits.gather_parameter = 2;
  EXPECT_THROW(check(bits), ConfigError) << "spelled quantize:2+2, which is quantize:2";
}

TEST(Resolve, LowRankTakesPartByTheRatioTest) {
  const Level rank4 = parse_level("low_rank:4");
  EXPECT_EQ(resolve(rank4, layer({64, 64, 3, 3})), rank4);  // 2*640*4 < 36864
  EXPECT_EQ(resolve(rank4, layer({16, 16})).method, Method::dense);
  EXPECT_EQ(resolve(rank4, layer({100000})).method, Method::dense);
  EXPECT_EQ(resolve(rank4, layer({})).method, Method::dense);
  EXPECT_EQ(resolve(rank4, layer({0, 10})).method, Method::dense);
  const Level generous = parse_level("low_rank:64:min_ratio=0.01");
  EXPECT_EQ(resolve(generous, layer({16, 1000})).parameter, 16) << "clipped to min(rows, cols)";
}

TEST(Resolve, CodedLayersMustBeWorthIt) {
  const Level bits4 = parse_level("quantize:4");
  EXPECT_EQ(resolve(bits4, layer({512})).method, Method::dense) << "a bias";
  EXPECT_EQ(resolve(bits4, layer({100'000})), bits4);
  EXPECT_EQ(resolve(bits4, layer({32, 16})), bits4);
  EXPECT_EQ(resolve(bits4, layer({1, 1})).method, Method::dense);
  EXPECT_EQ(resolve(parse_level("topk:0.9:values=bf16"), layer({100, 100})).method, Method::dense);
}

TEST(Resolve, SmallLayersTravelInManyBits) {
  for (const char* spelling : {"quantize:6", "quantize:7", "quantize:8"}) {
    const Level bits = parse_level(spelling);
    for (const LayerSpec& small : {layer({16}), layer({512}), layer({3, 8})}) {
      EXPECT_EQ(resolve(bits, small), bits);
    }
    EXPECT_EQ(resolve(bits, layer({})).method, Method::dense) << "one value and its header";
  }
  for (const char* spelling : {"quantize:5", "quantize:8:rounding=stochastic", "entropy:6"}) {
    EXPECT_EQ(resolve(parse_level(spelling), layer({512})).method, Method::dense) << spelling;
  }
}

TEST(Resolve, SixteenBitLayersTravelInTheirOwnType) {
  EXPECT_EQ(to_string(resolve(Level{}, layer({8}, DType::bf16))), "cast:bf16");
  EXPECT_EQ(to_string(resolve(parse_level("low_rank:4"), layer({8}, DType::f16))), "cast:fp16");
  EXPECT_EQ(to_string(resolve(parse_level("cast:fp16"), layer({8}, DType::bf16))), "cast:bf16");
}

TEST(Resolve, IsIdempotent) {
  for (const MethodRow& row : method_table()) {
    for (const LayerSpec& spec : {layer({300, 40}), layer({7}), layer({}), layer({0})}) {
      const Level once = resolve(parse_level(row.example), spec);
      EXPECT_EQ(resolve(once, spec), once);
    }
  }
}

TEST(Neighbours, SurroundTheReferenceAndEndWithDense) {
  const auto ranks = neighbours(parse_level("low_rank:4"));
  ASSERT_EQ(ranks.size(), 8u);  // 2..8 and dense
  EXPECT_EQ(ranks.front().parameter, 2);
  EXPECT_EQ(ranks[6].parameter, 8);
  EXPECT_EQ(ranks.back().method, Method::dense);
  const auto bits = neighbours(parse_level("quantize:6"));
  EXPECT_EQ(bits.front().parameter, 3);
  EXPECT_EQ(bits[bits.size() - 2].parameter, 8);
  for (const MethodRow& row : method_table()) {
    for (const Level& level : neighbours(parse_level(row.example))) EXPECT_NO_THROW(check(level));
  }
}

std::vector<std::string> spellings(const std::vector<Level>& levels) {
  std::vector<std::string> spellings;
  for (const Level& level : levels) spellings.push_back(to_string(level));
  return spellings;
}

TEST(MixedLevels, HoldEveryFamilyAndEndWithDense) {
  std::vector<std::string> expected = {"entropy:0.1", "entropy:0.15", "entropy:0.25", "entropy:0.4",
                                       "entropy:0.6", "entropy:1",    "entropy:1.5",  "entropy:2",
                                       "entropy:3",   "entropy:4",    "entropy:6"};
  for (int rank = 1; rank <= 8; ++rank) expected.push_back("low_rank:" + std::to_string(rank));
  for (const char* bits : {"8", "6", "4"}) {
    for (int rank = 1; rank <= 8; ++rank) {
      expected.push_back("low_rank:" + std::to_string(rank) + ":factors=" + bits);
    }
  }
  for (int bits = 1; bits <= 8; ++bits) expected.push_back("quantize:" + std::to_string(bits));
  for (const char* density :
       {"0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.3", "0.5"}) {
    for (const char* values : {":values=2", "", ":values=6"}) {
      expected.push_back(std::string("topk:") + density + values);
    }
  }
  expected.insert(expected.end(), {"cast:bf16", "dense"});
  EXPECT_EQ(spellings(mixed_levels(parse_level("low_rank:2"))), expected);
}

TEST(MixedLevels, RanksReachFourTimesTheReference) {
  const auto count = [](const char* reference) {
    const auto levels = mixed_levels(parse_level(reference));
    return std::count_if(levels.begin(), levels.end(),
                         [](const Level& level) { return level.method == Method::low_rank; });
  };
  EXPECT_EQ(count("quantize:4"), 4 * 16) << "four times 4";
  EXPECT_EQ(count("low_rank:1"), 4 * 4);
  EXPECT_EQ(count("low_rank:1:factors=8"), 3 * 4);
  EXPECT_EQ(count("low_rank:30"), 64 + 3 * 29) << "capped, and not each rank with every type";
  EXPECT_EQ(count("low_rank:100"), 100 + 3 * 32) << "but the reference is among them";
}

TEST(MixedLevels, KeepTheSettingsOfTheReference) {
  for (const char* reference : {"low_rank:4:min_ratio=1:factors=bf16", "topk:0.01:values=fp32",
                                "quantize:4:bucket=256:rounding=stochastic"}) {
    const Level wanted = parse_level(reference);
    for (Level level : mixed_levels(wanted)) {
      if (level.method != wanted.method) continue;
      level.parameter = wanted.parameter;
      if (level.factor_bits != 0) {  // a type of factors is part of the family
        level.factors = wanted.factors;
        level.factor_bits = wanted.factor_bits;
      }
      EXPECT_EQ(level, wanted);
    }
  }
}

TEST(MixedLevels, AreValidAndDifferent) {
  for (const MethodRow& row : method_table()) {
    std::vector<std::string> seen;
    for (const Level& level : mixed_levels(parse_level(row.example))) {
      EXPECT_NO_THROW(check(level));
      const std::string spelling = to_string(level);
      EXPECT_EQ(std::count(seen.begin(), seen.end(), spelling), 0) << spelling;
      seen.push_back(spelling);
    }
    EXPECT_EQ(seen.back(), "dense");
  }
}

TEST(TwoEncodings, KeepTheirRatioInAFamily) {
  const std::vector<std::string> around = {"quantize:1+2", "quantize:2+4", "quantize:3+6",
                                           "quantize:4+8", "dense"};
  EXPECT_EQ(spellings(neighbours(parse_level("quantize:2+4"))), around);
  const auto mixed = spellings(mixed_levels(parse_level("topk:0.03+0.1")));
  EXPECT_EQ(std::ranges::count(mixed, "topk:0.3+1"), 1);
  EXPECT_EQ(std::ranges::count(mixed, "quantize:4"), 1) << "of another method";
  const auto same = neighbours(parse_level("topk:0.03+0.1"));
  EXPECT_EQ(std::ranges::count(same, parse_level("topk:0.03+0.1")), 1) << "the reference itself";
}

TEST(TwoEncodings, AreLevelsOfTheirOwn) {
  const Level level = parse_level("quantize:2+4:bucket=256");
  EXPECT_EQ(to_string(scatter_level(level)), "quantize:2:bucket=256");
  EXPECT_EQ(to_string(gather_level(level)), "quantize:4:bucket=256");
  EXPECT_EQ(to_string(parse_level("quantize:4+4")), "quantize:4");
  EXPECT_EQ(gather_level(parse_level("quantize:4")), parse_level("quantize:4"));
  EXPECT_EQ(2 * payload_bytes(level, {1024, 64}),
            payload_bytes(scatter_level(level), {1024, 64}) +
                payload_bytes(gather_level(level), {1024, 64}));
}

TEST(PayloadBytes, FollowsTheFormats) {
  EXPECT_EQ(payload_bytes(parse_level("dense"), {10, 10}), 400u);
  EXPECT_EQ(payload_bytes(parse_level("cast:bf16"), {10, 10}), 200u);
  EXPECT_EQ(payload_bytes(parse_level("low_rank:4"), {512, 4608}), 4u * 4 * (512 + 4608));
  EXPECT_EQ(payload_bytes(parse_level("quantize:4"), {1024, 3}), 3u * 2 * (2 + 256));
  EXPECT_EQ(payload_bytes(parse_level("low_rank:4:factors=bf16"), {512, 4608}),
            2u * 4 * (512 + 4608));
  // A scale for each 256 of a column.
  EXPECT_EQ(payload_bytes(parse_level("low_rank:4:factors=8"), {512, 4608}),
            4u * (512 + 4608) + 2 * 4 * (2 + 18));
  EXPECT_EQ(payload_bytes(parse_level("low_rank:2:factors=3"), {257, 9}),
            2u * (2 + 96 + 2 + 1) + 2 * (2 + 4));
  // 100 of 10000: 6 low bits each, then 100 + 9999 / 64 bits.
  EXPECT_EQ(payload_bytes(parse_level("topk:0.01"), {100, 100}), 75u + 32 + 2 + 2 + 50);
  EXPECT_EQ(payload_bytes(parse_level("topk:0.01:values=bf16"), {100, 100}), 75u + 32 + 2 * 100);
  EXPECT_EQ(payload_bytes(parse_level("topk:0.01:values=fp32"), {100, 100}), 75u + 32 + 4 * 100);
  const double four_bits =
      static_cast<double>(payload_bytes(parse_level("quantize:4"), {1000, 1000}));
  EXPECT_LE(four_bits / 4e6, 0.127);
}

TEST(PayloadBytes, TopKNeedsLittleForPositions) {
  const double entries = 1e5;
  EXPECT_LE(
      static_cast<double>(payload_bytes(parse_level("topk:0.01:values=bf16"), {10'000, 1000})),
      3.1 * entries);
}

TEST(PayloadBytes, HasNoLimitAt32Bits) {
  for (std::size_t count : {(std::size_t{1} << 31) + 3, std::size_t{1} << 33}) {
    const double n = static_cast<double>(count);
    const auto bytes = [&](const char* spelling) {
      return static_cast<double>(payload_bytes(parse_level(spelling), {1, count}));
    };
    EXPECT_EQ(bytes("dense"), 4 * n);
    EXPECT_EQ(bytes("cast:bf16"), 2 * n);
    EXPECT_NEAR(bytes("quantize:4"), n * (0.5 + 4.0 / 1024), 5);
    // 1 %: two bits and the logarithm of 100 at most, one bit and it at least.
    EXPECT_LE(bytes("topk:0.01:values=bf16"), 0.01 * n * (2 + (2 + std::log2(100.0)) / 8) + 16);
    EXPECT_GE(bytes("topk:0.01:values=bf16"), 0.01 * n * (2 + (1 + std::log2(100.0)) / 8) - 16);
    EXPECT_EQ(bytes("topk:1:values=bf16"), 2 * n + std::ceil((2 * n - 1) / 8));
    EXPECT_EQ(bytes("low_rank:2"), 8 * (n + 1));
  }
}

TEST(Level, WhatCannotBeSpelledIsRefused) {
  for (const Level& level :
       {Level{.method = Method::cast, .values = DType::f32},
        Level{.method = Method::topk, .parameter = 0.1, .values = DType::f16, .value_bits = 0},
        Level{.method = Method::topk, .parameter = 0.1, .value_bits = 9},
        Level{.method = Method::low_rank, .parameter = 4, .factors = DType::f16},
        Level{.method = Method::quantize, .parameter = 4, .bucket = 1 << 25},
        Level{.method = Method::quantize, .parameter = 4, .bucket = 0}}) {
    EXPECT_THROW(check(level), ConfigError) << to_string(level);
  }
}

}  // namespace
}  // namespace lgreco
