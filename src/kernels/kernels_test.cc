// Every kernel against its scalar reference, on every instruction set this CPU has: same bits.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "hwy/highway.h"
#include "src/kernels/scalar.h"

namespace lgreco::kernels {
namespace {

std::vector<std::int64_t> targets() {
  std::vector<std::int64_t> targets;
  for (std::int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
    targets.push_back(rest & -rest);
  }
  return targets;
}

// Restricts dispatch to one target for the length of a test.
class KernelsTest : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    ASSERT_EQ(hwy::SupportedTargets(), GetParam()) << "the target was not honoured";
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }

  std::vector<float> gaussian(std::size_t count, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator_);
    return values;
  }

  std::mt19937 generator_{42};
};

INSTANTIATE_TEST_SUITE_P(Targets, KernelsTest, testing::ValuesIn(targets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

const std::size_t kCounts[] = {0,  1,   2,   3,    4,    5,    7,    8,    9,    15,  16,
                               17, 31,  32,  33,   47,   48,   49,   63,   64,   65,  66,
                               67, 127, 129, 1023, 1024, 1025, 2047, 2048, 2049, 4100};

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

TEST_P(KernelsTest, Elementwise) {
  for (std::size_t count : kCounts) {
    for (std::size_t shift : {0, 1, 3}) {
      const auto a = gaussian(count + shift), b = gaussian(count + shift);
      std::vector<float> out(count), expected(count);
      add(a.data() + shift, b.data() + shift, count, out.data());
      scalar::add(a.data() + shift, b.data() + shift, count, expected.data());
      EXPECT_TRUE(same_bits(out, expected));
      std::fill(out.begin(), out.end(), 0.0f);
      EXPECT_TRUE(add_finite(a.data() + shift, b.data() + shift, count, out.data()));
      EXPECT_TRUE(same_bits(out, expected));
      subtract(a.data() + shift, b.data() + shift, count, out.data());
      scalar::subtract(a.data() + shift, b.data() + shift, count, expected.data());
      EXPECT_TRUE(same_bits(out, expected));
      scale(a.data() + shift, 1 / 3.0f, count, out.data());
      scalar::scale(a.data() + shift, 1 / 3.0f, count, expected.data());
      EXPECT_TRUE(same_bits(out, expected));
      EXPECT_EQ(max_magnitude(a.data(), count), scalar::max_magnitude(a.data(), count));
      EXPECT_EQ(sum_squares(a.data(), count), scalar::sum_squares(a.data(), count));
    }
  }
}

TEST_P(KernelsTest, AllFiniteFindsEveryPosition) {
  for (std::size_t count : {1, 5, 16, 33, 70}) {
    auto values = gaussian(count);
    values[0] = std::numeric_limits<float>::max();
    EXPECT_TRUE(all_finite(values.data(), count));
    for (std::size_t i = 0; i < count; ++i) {
      for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
        auto broken = values;
        broken[i] = bad;
        EXPECT_FALSE(all_finite(broken.data(), count)) << i << " of " << count;
        std::vector<float> sum(count);
        EXPECT_FALSE(add_finite(values.data(), broken.data(), count, sum.data())) << i;
        EXPECT_FALSE(accumulate(broken.data(), count, sum.data())) << i;
      }
    }
  }
}

// What overflows is finite before.
TEST_P(KernelsTest, AccumulateLooksAtWhatItAdds) {
  const std::vector<float> values(70, std::numeric_limits<float>::max());
  auto sum = values;
  EXPECT_TRUE(accumulate(values.data(), values.size(), sum.data()));
  EXPECT_EQ(sum, std::vector<float>(values.size(), INFINITY));
}

TEST_P(KernelsTest, Bf16RoundsToNearestEven) {
  std::vector<float> values(70'000);
  for (float& value : values)
    value = std::bit_cast<float>(static_cast<std::uint32_t>(generator_()));
  for (std::uint32_t i = 0; i < 65'536; ++i) {  // halfway between two neighbours, and around
    values[i] = std::bit_cast<float>((i << 16) | (0x7FFFu + i % 3));
  }
  std::vector<std::uint16_t> out(values.size()), expected(values.size());
  to_bf16(values.data(), values.size(), out.data());
  scalar::to_bf16(values.data(), values.size(), expected.data());
  EXPECT_EQ(out, expected);
}

// Every half, what is halfway to the next one, which may be infinity, and what is around both.
TEST_P(KernelsTest, F16RoundsToNearestEven) {
  const auto nudged = [](float value, std::uint32_t by) {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) + by);
  };
  std::vector<float> values;
  std::vector<std::uint16_t> expected;
  const auto expect = [&](float value, std::uint32_t half) {
    values.insert(values.end(), {value, -value});
    expected.push_back(static_cast<std::uint16_t>(half));
    expected.push_back(static_cast<std::uint16_t>(half | 0x8000u));
  };
  const auto magnitude = [](std::uint32_t half) {
    return half < 0x400 ? std::ldexp(static_cast<float>(half), -24)
                        : std::ldexp(static_cast<float>(0x400 + half % 0x400),
                                     static_cast<int>(half / 0x400) - 25);
  };
  for (std::uint32_t half = 0; half < 0x7C00; ++half) {
    const float value = magnitude(half), middle = (value + magnitude(half + 1)) / 2;
    expect(value, half);
    expect(nudged(value, 1), half);
    expect(nudged(middle, ~0u), half);
    expect(middle, half + half % 2);
    expect(nudged(middle, 1), half + 1);
  }
  for (float huge : {0x1p16f, std::numeric_limits<float>::max(), INFINITY}) expect(huge, 0x7C00);
  std::vector<std::uint16_t> out(values.size());
  to_f16(values.data(), values.size(), out.data());
  EXPECT_EQ(out, expected);

  for (float& value : values) {
    value = std::bit_cast<float>(static_cast<std::uint32_t>(generator_()));
  }
  to_f16(values.data(), values.size(), out.data());
  scalar::to_f16(values.data(), values.size(), expected.data());
  EXPECT_EQ(out, expected);
}

TEST_P(KernelsTest, SixteenBitTypesRoundTripExhaustively) {
  std::vector<std::uint16_t> all(65'536), back(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  std::vector<float> values(all.size()), expected(all.size());
  from_bf16(all.data(), all.size(), values.data());
  scalar::from_bf16(all.data(), all.size(), expected.data());
  EXPECT_TRUE(same_bits(values, expected));
  to_bf16(values.data(), values.size(), back.data());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!std::isnan(values[i])) {
      EXPECT_EQ(back[i], all[i]);
    }
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(bf16_value(back[i])));
    }
  }
  from_f16(all.data(), all.size(), values.data());
  scalar::from_f16(all.data(), all.size(), expected.data());
  EXPECT_TRUE(same_bits(values, expected));
  to_f16(values.data(), values.size(), back.data());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!std::isnan(values[i])) {
      EXPECT_EQ(back[i], all[i]);
    }
    if (std::isnan(values[i])) {
      EXPECT_GT(back[i] & 0x7FFF, 0x7C00);
    }
  }
}

TEST_P(KernelsTest, CastKeepsLoss) {
  for (std::size_t count : kCounts) {
    const auto addend = gaussian(count);
    for (const float* added : {static_cast<const float*>(nullptr), addend.data()}) {
      for (const auto& [keep_loss, reference] :
           {std::pair{&to_bf16_keep_loss, &scalar::to_bf16_keep_loss},
            std::pair{&to_f16_keep_loss, &scalar::to_f16_keep_loss}}) {
        auto values = gaussian(count), expected_values = values;
        std::vector<std::uint16_t> out(count), expected(count);
        EXPECT_TRUE(keep_loss(added, count, values.data(), out.data()));
        EXPECT_TRUE(reference(added, count, expected_values.data(), expected.data()));
        EXPECT_EQ(out, expected);
        EXPECT_TRUE(same_bits(values, expected_values));
      }
    }
  }
}

TEST_P(KernelsTest, CastKeepsLossOfFiniteHalvesOnly) {
  const auto finds = [](auto keep_loss, std::size_t count, std::size_t at, float bad) {
    std::vector<float> values(count, 1.0f);
    std::vector<std::uint16_t> out(count);
    values[at] = bad;
    return !keep_loss(nullptr, count, values.data(), out.data());
  };
  const float huge = std::numeric_limits<float>::max();  // rounds to infinity
  for (std::size_t count : {1, 17, 70}) {
    for (std::size_t at = 0; at < count; ++at) {
      for (float bad : {std::nanf(""), INFINITY, -INFINITY, huge, -huge}) {
        EXPECT_TRUE(finds(to_bf16_keep_loss, count, at, bad)) << at;
        EXPECT_TRUE(finds(to_f16_keep_loss, count, at, bad)) << at;
      }
      EXPECT_TRUE(finds(to_f16_keep_loss, count, at, 65'520.0f)) << at;
      EXPECT_FALSE(finds(to_f16_keep_loss, count, at, 65'519.0f)) << at;
    }
  }
}

/// Grids over `range` with few, half and all of the codes under zero.
std::vector<Grid> grids_over(const Range& range, int bits) {
  std::vector<Grid> grids;
  const int steps = (1 << bits) - 1;
  for (int below : {0, 1, (steps + 1) / 2, steps}) {
    grids.push_back({bits, below, -range.low / static_cast<float>(std::max(below, 1)),
                     range.high / static_cast<float>(std::max(steps - below, 1))});
  }
  return grids;
}

TEST_P(KernelsTest, QuantizeAndBack) {
  const RandomStream stream = stream_of({1, 2, 3});
  for (int bits = 1; bits <= 8; ++bits) {
    for (std::size_t count : kCounts) {
      if (count == 0) continue;
      auto values = gaussian(count);
      for (std::size_t i = 0; i < count; i += 5) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
      const Range range = range_of(values.data(), count);
      const Range plain = scalar::range_of(values.data(), count);
      ASSERT_EQ(range.low, plain.low);
      ASSERT_EQ(range.high, plain.high);
      const Range with_zero{std::min(range.low, 0.0f), std::max(range.high, 0.0f)};
      for (const Grid& grid : grids_over(with_zero, bits)) {
        for (const RandomStream* random : {static_cast<const RandomStream*>(nullptr), &stream}) {
          SCOPED_TRACE(std::to_string(bits) + " bits, " + std::to_string(count) + " values, " +
                       std::to_string(grid.below) + " codes under zero");
          std::vector<std::uint8_t> packed(packed_bytes(count, bits), 0xFF), expected(packed);
          quantize_pack(values.data(), count, grid, random, 77, packed.data());
          scalar::quantize_pack(values.data(), count, grid, random, 77, expected.data());
          ASSERT_EQ(packed, expected);
          auto loss = values, expected_loss = values;
          quantize_pack_keep_loss(loss.data(), count, grid, random, 77, packed.data(),
                                  {values.data(), values.data()});
          ASSERT_EQ(packed, expected);
          scalar::quantize_pack_keep_loss(expected_loss.data(), count, grid, random, 77,
                                          expected.data());
          ASSERT_TRUE(same_bits(loss, expected_loss));
          auto sum = gaussian(count);
          auto expected_sum = sum;
          unpack_dequantize_add(packed.data(), count, grid, sum.data());
          scalar::unpack_dequantize_add(packed.data(), count, grid, expected_sum.data());
          ASSERT_TRUE(same_bits(sum, expected_sum));
        }
      }
    }
  }
}

TEST_P(KernelsTest, QuantizeOfNothingButZeros) {
  const Grid grid{3, 0, 0, 0};
  std::vector<float> values(70, 0.0f);
  values[3] = values[68] = -0.0f;
  std::vector<std::uint8_t> packed(packed_bytes(values.size(), 3), 0xFF), expected(packed);
  auto loss = values, expected_loss = values;
  quantize_pack_keep_loss(loss.data(), loss.size(), grid, nullptr, 0, packed.data(),
                          {loss.data(), loss.data()});
  scalar::quantize_pack_keep_loss(expected_loss.data(), loss.size(), grid, nullptr, 0,
                                  expected.data());
  EXPECT_EQ(packed, expected);
  EXPECT_EQ(packed, std::vector<std::uint8_t>(packed.size(), 0));
  EXPECT_TRUE(same_bits(loss, expected_loss));
  EXPECT_EQ(loss, std::vector<float>(values.size(), 0.0f));
}

TEST_P(KernelsTest, MomentsAtAnyScale) {
  for (std::size_t count : kCounts) {
    for (float scale : {1e-44f, 1e-38f, 1e-20f, 1.0f, 1e18f, 1e37f}) {
      auto values = gaussian(count, scale);
      auto addend = gaussian(count, scale);
      for (std::size_t i = 0; i < count; i += 7) values[i] = addend[i] = 0;
      for (const float* added :
           {static_cast<const float*>(nullptr), std::as_const(addend).data()}) {
        auto expected_values = values;
        Moments moments, expected;
        ASSERT_TRUE(add_and_find_moments(added, count, values.data(), moments));
        ASSERT_TRUE(scalar::add_and_find_moments(added, count, expected_values.data(), expected));
        ASSERT_TRUE(same_bits(values, expected_values));
        for (int again = 0; again < 2; ++again) {
          ASSERT_EQ(moments.count, expected.count);
          ASSERT_EQ(moments.unit, expected.unit);
          ASSERT_EQ(moments.largest, expected.largest);
          ASSERT_EQ(moments.sum, expected.sum);
          ASSERT_EQ(moments.sum_squares, expected.sum_squares);
          ASSERT_TRUE(moments_of(values.data(), count, moments));
        }
        const double squares = sum_squares(values.data(), count);
        const double unit = static_cast<double>(moments.unit);
        EXPECT_NEAR(static_cast<double>(moments.sum_squares) * unit * unit, squares,
                    1e-5 * squares);
      }
    }
  }
}

TEST_P(KernelsTest, MomentsFindWhatIsNotFinite) {
  for (std::size_t count : {1, 15, 16, 17, 70}) {
    for (std::size_t i = 0; i < count; ++i) {
      for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
        auto values = gaussian(count);
        const auto zeros = std::vector<float>(count, 0.0f);
        values[i] = bad;
        Moments moments;
        EXPECT_FALSE(moments_of(values.data(), count, moments));
        EXPECT_FALSE(add_and_find_moments(zeros.data(), count, values.data(), moments));
      }
    }
  }
}

std::vector<LloydMaxGrid> lloyd_max_grids() {
  std::vector<LloydMaxGrid> grids;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const Law law : {Law::normal, Law::laplace, Law::heavy, Law::heaviest}) {
      for (bool has_zero : {false, true}) {
        grids.push_back({bits, law, has_zero, 1.0f});
        grids.push_back({bits, law, has_zero, 0.13f, 0.7f});
      }
    }
  }
  return grids;
}

std::string name_of(const LloydMaxGrid& grid) {
  return std::to_string(grid.bits) + " bits, law " + std::to_string(static_cast<int>(grid.law)) +
         (grid.has_zero ? ", with zero, from " : ", from ") + std::to_string(grid.offset);
}

void expect_lloyd_max(const std::vector<float>& values, const LloydMaxGrid& grid) {
  const std::size_t count = values.size();
  std::vector<std::uint8_t> packed(packed_bytes(count, grid.bits), 0xFF), expected(packed);
  lloyd_max_pack(values.data(), count, grid, packed.data());
  scalar::lloyd_max_pack(values.data(), count, grid, expected.data());
  ASSERT_EQ(packed, expected);
  auto loss = values, expected_loss = values;
  lloyd_max_pack_keep_loss(loss.data(), count, grid, packed.data(), {values.data(), values.data()});
  ASSERT_EQ(packed, expected);
  scalar::lloyd_max_pack_keep_loss(expected_loss.data(), count, grid, expected.data());
  ASSERT_TRUE(same_bits(loss, expected_loss));
  std::vector<float> sum(count, 0.5f), expected_sum(sum);
  lloyd_max_unpack_add(packed.data(), count, grid, sum.data());
  scalar::lloyd_max_unpack_add(packed.data(), count, grid, expected_sum.data());
  ASSERT_TRUE(same_bits(sum, expected_sum));
  EXPECT_EQ(lloyd_max_loss(values.data(), count, grid),
            scalar::lloyd_max_loss(values.data(), count, grid));
}

TEST_P(KernelsTest, LloydMaxAndBack) {
  for (const LloydMaxGrid& grid : lloyd_max_grids()) {
    SCOPED_TRACE(name_of(grid));
    for (std::size_t count : kCounts) {
      auto values = gaussian(count, 2.0f);
      for (std::size_t i = 0; i < count; i += 5) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
      expect_lloyd_max(values, grid);
    }
  }
}

// Thresholds, magnitudes, what is around them, and what is far beyond them.
TEST_P(KernelsTest, LloydMaxFindsTheNearestMagnitude) {
  for (const LloydMaxGrid& grid : lloyd_max_grids()) {
    SCOPED_TRACE(name_of(grid));
    const auto magnitudes = levels_of(grid).magnitudes;
    std::vector<float> values = {1e-38f, 1e-30f, 1e30f, std::numeric_limits<float>::max()};
    for (std::size_t i = 0; i < magnitudes.size(); ++i) {
      const float next = magnitudes[std::min(i + 1, magnitudes.size() - 1)];
      for (float value : {magnitudes[i], (magnitudes[i] + next) / 2}) {
        value = value * grid.scale + grid.offset;
        const auto bits = std::bit_cast<std::int32_t>(value);
        for (std::int32_t by = -200; by <= 200; by += by > -3 && by < 3 ? 1 : 37) {
          if (bits + by >= 0) values.push_back(std::bit_cast<float>(bits + by));
        }
      }
    }
    for (std::size_t i = 0; i < values.size(); i += 2) values[i] = -values[i];
    expect_lloyd_max(values, grid);
    std::vector<float> loss = values;
    std::vector<std::uint8_t> packed(packed_bytes(values.size(), grid.bits));
    lloyd_max_pack_keep_loss(loss.data(), loss.size(), grid, packed.data(),
                             {loss.data(), loss.data()});
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double magnitude = std::abs(static_cast<double>(values[i]));
      double least = std::numeric_limits<double>::infinity();
      for (float other : magnitudes) {
        least = std::min(least, std::abs(magnitude - (static_cast<double>(other) *
                                                          static_cast<double>(grid.scale) +
                                                      static_cast<double>(grid.offset))));
      }
      ASSERT_NEAR(std::abs(loss[i]), least, 1e-4 * magnitude + 1e-6) << values[i];
    }
  }
}

TEST(LloydMax, MagnitudesAreTheMeansOfWhatTheyStandFor) {
  // Max 1960, table I: relative error of 2, 4 and 8 levels of the normal law; Laplace alike.
  const auto error_of = [](Law law, int bits, auto density) {
    const LloydMaxGrid grid{bits, law, false, 1.0f};
    double sum = 0, total = 0;
    for (double x = 5e-4; x < 30; x += 1e-3) {
      const auto value = static_cast<float>(x);
      sum += density(x) * static_cast<double>(lloyd_max_loss(&value, 1, grid));
      total += density(x);
    }
    return sum / total;
  };
  const auto normal = [](double x) { return std::exp(-x * x / 2); };
  const auto laplace = [](double x) { return std::exp(-std::sqrt(2.0) * x); };
  const double of_normal[] = {.3634, .1175, .03454, .009497, .002499, .0006442, .0001635, .0000412};
  const double of_laplace[] = {.5, .1762, .0545, .0154, .00410, .00106};
  for (int bits = 1; bits <= 8; ++bits) {
    EXPECT_NEAR(error_of(Law::normal, bits, normal) / of_normal[bits - 1], 1, 0.01) << bits;
  }
  for (int bits = 1; bits <= 6; ++bits) {
    EXPECT_NEAR(error_of(Law::laplace, bits, laplace) / of_laplace[bits - 1], 1, 0.01) << bits;
  }
}

// Numbers so near 1 are drawn that code + number is rounded up to the next code.
TEST_P(KernelsTest, ZeroIsSentAsZeroWhateverIsDrawn) {
  constexpr std::size_t kCount = 1 << 20;
  const RandomStream stream = stream_of({1, 2, 3});
  const std::vector<float> zeros(kCount, 0.0f);
  std::vector<std::uint8_t> packed(kCount);
  for (int below : {0, 1, 100, 255}) {
    const Grid grid{8, below, 1.0f, 1.0f};
    quantize_pack(zeros.data(), kCount, grid, &stream, 0, packed.data());
    EXPECT_EQ(std::count(packed.begin(), packed.end(), below), kCount);
  }
}

TEST_P(KernelsTest, PackedCodesComeBack) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (std::size_t count : kCounts) {
      std::vector<std::uint8_t> codes(count + kCodePadding), back(codes.size());
      for (auto& code : codes) code = static_cast<std::uint8_t>(generator_() % (1u << bits));
      const auto expected = codes;
      std::vector<std::uint8_t> packed(packed_bytes(count, bits), 0xFF);
      pack_codes(codes.data(), count, bits, packed.data());
      unpack_codes(packed.data(), count, bits, back.data());
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(back[i], expected[i]) << bits << " bits";
      const std::size_t used = count * static_cast<std::size_t>(bits);
      if (used % 8 != 0) {
        EXPECT_EQ(packed[used / 8] >> (used % 8), 0) << "spare bits";
      }
    }
  }
}

TEST_P(KernelsTest, AddAndFindRange) {
  for (std::size_t count : kCounts) {
    if (count == 0) continue;
    const auto addend = gaussian(count);
    for (const float* added : {static_cast<const float*>(nullptr), addend.data()}) {
      auto values = gaussian(count), expected = values;
      Range range, plain;
      EXPECT_TRUE(add_and_find_range(added, count, values.data(), range));
      EXPECT_TRUE(scalar::add_and_find_range(added, count, expected.data(), plain));
      EXPECT_TRUE(same_bits(values, expected));
      EXPECT_EQ(range.low, plain.low);
      EXPECT_EQ(range.high, plain.high);
    }
  }
}

TEST_P(KernelsTest, AddAndFindRangeSeesEveryValueThatIsNotFinite) {
  for (std::size_t count : {1, 17, 100}) {
    for (std::size_t i = 0; i < count; ++i) {
      for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
        auto values = gaussian(count);
        values[i] = bad;
        Range range;
        EXPECT_FALSE(add_and_find_range(nullptr, count, values.data(), range)) << i;
      }
    }
  }
}

// Equal inputs give equal headers on every CPU, whichever of two equal zeros a minimum takes.
TEST_P(KernelsTest, RangeHasNoNegativeZero) {
  for (std::size_t count : {1, 5, 16, 33, 70}) {
    std::vector<float> values(count, -0.0f);
    for (std::size_t i = 0; i < count; i += 2) values[i] = 0.0f;
    Range range;
    ASSERT_TRUE(add_and_find_range(nullptr, count, values.data(), range));
    for (const Range& found :
         {range, range_of(values.data(), count), scalar::range_of(values.data() + count - 1, 1)}) {
      EXPECT_FALSE(std::signbit(found.low)) << count;
      EXPECT_FALSE(std::signbit(found.high)) << count;
    }
  }
}

// Many equal magnitudes of both signs, and zeros of both signs.
std::vector<float> with_ties(std::vector<float> values) {
  for (std::size_t i = 0; i < values.size(); i += 3) values[i] = (i % 2 == 0) ? 0.5f : -0.5f;
  for (std::size_t i = 0; i < values.size(); i += 7) values[i] = (i % 2 == 0) ? 0.0f : -0.0f;
  return values;
}

std::vector<std::size_t> select(const std::vector<float>& values, TopKThreshold threshold,
                                const TopKCandidates& candidates) {
  constexpr std::size_t kBlock = TopKCandidates::kBlock;
  std::vector<std::size_t> positions;
  for (std::size_t at = 0; at < values.size(); at += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - at);
    std::vector<std::uint32_t> indices(count);
    indices.resize(select_block(values.data() + at, count, candidates.runs(at / kBlock), threshold,
                                indices.data()));
    for (std::uint32_t index : indices) positions.push_back(at + index);
  }
  EXPECT_EQ(threshold.ties, 0u);
  return positions;
}

// The definition: sort by magnitude, the smaller index first.
std::vector<std::size_t> k_largest(const std::vector<float>& values, std::size_t k) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(values[a]) > std::abs(values[b]);
  });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}

TEST_P(KernelsTest, TopKWithTies) {
  for (std::size_t count : kCounts) {
    for (std::size_t k : {std::size_t{1}, count / 100, count / 3, count - count / 8, count}) {
      if (k == 0 || k > count) continue;
      const auto values = with_ties(gaussian(count));
      TopKCandidates candidates(count);
      const TopKThreshold threshold = find_threshold(values.data(), count, k, candidates);
      ASSERT_EQ(threshold, scalar::find_threshold(values.data(), count, k)) << k << " of " << count;
      ASSERT_EQ(select(values, threshold, candidates), k_largest(values, k))
          << k << " of " << count;
    }
  }
}

// Long enough for a sample to say where the threshold is; some that mislead it, or where too much
// is as large as the threshold.
TEST_P(KernelsTest, TopKOfManyValues) {
  constexpr std::size_t kCount = 150'001;
  auto most_zero = gaussian(kCount), most_equal = most_zero, misleading = most_zero,
       misleading_equal = most_zero, sorted = most_zero;
  for (std::size_t i = 0; i < kCount; ++i) {
    if (i % 50 != 0) most_zero[i] = 0.0f;
    if (i % 10 != 0) most_equal[i] = 0.5f;
    if (i % 256 < 128) misleading[i] *= 1000.0f;
    if (i % 256 < 128) misleading_equal[i] = 3.0f;
  }
  std::sort(sorted.begin(), sorted.end());
  const std::vector<float> equal(kCount, -2.0f);
  for (const auto& values : {gaussian(kCount), with_ties(gaussian(kCount)), most_zero, most_equal,
                             misleading, misleading_equal, sorted, equal}) {
    // 617 of 10,000: about as many are larger than 0.5 in `most_equal`.
    for (std::size_t k : {std::size_t{1}, std::size_t{150}, kCount / 60, kCount * 617 / 10'000,
                          kCount / 2, kCount * 3 / 4, kCount}) {
      TopKCandidates candidates(kCount);
      const TopKThreshold threshold = find_threshold(values.data(), kCount, k, candidates);
      ASSERT_EQ(threshold, scalar::find_threshold(values.data(), kCount, k)) << k;
      ASSERT_EQ(select(values, threshold, candidates), k_largest(values, k)) << k;
    }
  }
}

TEST_P(KernelsTest, AddAndFindThreshold) {
  for (std::size_t count : {std::size_t{1}, std::size_t{1000}, std::size_t{150'001}}) {
    const std::size_t k = 1 + count / 100;
    const auto addend = gaussian(count);
    for (const float* added : {static_cast<const float*>(nullptr), addend.data()}) {
      auto values = gaussian(count), expected = values;
      TopKThreshold threshold, plain;
      TopKCandidates candidates(count);
      ASSERT_TRUE(add_and_find_threshold(added, count, k, values.data(), threshold, candidates));
      ASSERT_TRUE(scalar::add_and_find_threshold(added, count, k, expected.data(), plain));
      EXPECT_TRUE(same_bits(values, expected));
      EXPECT_EQ(threshold, plain) << count;
      EXPECT_EQ(select(values, threshold, candidates), k_largest(values, k)) << count;
      for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
        auto broken = values;
        broken[count / 2] = bad;
        EXPECT_FALSE(add_and_find_threshold(added, count, k, broken.data(), threshold, candidates));
      }
    }
  }
}

TEST_P(KernelsTest, TopKFindsWhatIsNotFiniteAtEveryPosition) {
  for (std::size_t count : {1, 33, 70}) {
    for (std::size_t i = 0; i < count; ++i) {
      auto values = gaussian(count);
      values[i] = INFINITY;
      TopKThreshold threshold;
      TopKCandidates candidates(count);
      EXPECT_FALSE(add_and_find_threshold(nullptr, count, 1, values.data(), threshold, candidates));
    }
  }
}

// Most values need not be looked at again, but where many are kept, all are: jumps are slow.
TEST_P(KernelsTest, TopKMarksFewRuns) {
  constexpr std::size_t kCount = 1'000'000;
  const auto values = gaussian(kCount);
  const auto marked = [&](std::size_t k) {
    TopKCandidates candidates(kCount);
    find_threshold(values.data(), kCount, k, candidates);
    std::size_t runs = 0;
    for (std::size_t block = 0; block * TopKCandidates::kBlock < kCount; ++block) {
      runs += static_cast<std::size_t>(std::popcount(candidates.runs(block)));
    }
    return runs;
  };
  const std::size_t runs = kCount / TopKCandidates::kRun;
  EXPECT_LT(marked(kCount / 1000), runs / 10);
  EXPECT_GE(marked(kCount / 50), runs);
}

// More blocks than marks: several share them.
TEST_P(KernelsTest, TopKOfALongLayer) {
  constexpr std::uint32_t kCount = 17'000'000;
  std::vector<float> values(kCount);
  for (std::uint32_t i = 0; i < kCount; ++i) {
    values[i] = static_cast<float>(static_cast<std::int32_t>(i * 2'654'435'761u));
  }
  TopKCandidates candidates(kCount), all(kCount);
  all.mark_all();
  const TopKThreshold threshold =
      find_threshold(values.data(), kCount, kCount / 10'000, candidates);
  const auto kept = select(values, threshold, candidates);
  EXPECT_EQ(kept.size(), kCount / 10'000);
  EXPECT_EQ(kept, select(values, threshold, all));
}

// Every digit of the radix selection decides once: values that differ in low bits alone.
TEST_P(KernelsTest, TopKOfValuesThatDifferInTheLastBits) {
  std::vector<float> values(5000);
  for (std::uint32_t i = 0; i < values.size(); ++i) {
    const std::uint32_t bits = 0x3F800000u + (i * 7919u) % 5000u;
    values[i] = std::bit_cast<float>(bits | (i % 2 << 31));
  }
  for (std::size_t k : {1, 50, 1023, 1024, 1025, 4999}) {
    TopKCandidates candidates(values.size());
    const TopKThreshold threshold = find_threshold(values.data(), values.size(), k, candidates);
    ASSERT_EQ(threshold, scalar::find_threshold(values.data(), values.size(), k));
    ASSERT_EQ(select(values, threshold, candidates), k_largest(values, k)) << k;
  }
}

TEST_P(KernelsTest, LowRankProducts) {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{1, 1},
                                   {3, 5},
                                   {16, 16},
                                   {17, 33},
                                   {40, 129},
                                   {64, 15},
                                   {9, 1000}}) {
    for (std::size_t rank : {1, 2, 3, 4, 5, 6, 7, 8, 11, 13}) {
      const auto matrix = gaussian(rows * cols);
      const auto right = gaussian(cols * rank);
      const auto left = gaussian(rows * rank);
      std::vector<float> out(rows * rank), expected(rows * rank);
      multiply(matrix.data(), rows, cols, right.data(), rank, out.data());
      scalar::multiply(matrix.data(), rows, cols, right.data(), rank, expected.data());
      ASSERT_TRUE(same_bits(out, expected)) << rows << "x" << cols << " rank " << rank;
      const auto addend = gaussian(rows * cols);
      auto sum = matrix, expected_sum = matrix;
      add_and_multiply(addend.data(), rows, cols, right.data(), rank, sum.data(), out.data());
      scalar::add_and_multiply(addend.data(), rows, cols, right.data(), rank, expected_sum.data(),
                               expected.data());
      ASSERT_TRUE(same_bits(out, expected)) << rows << "x" << cols << " rank " << rank;
      ASSERT_TRUE(same_bits(sum, expected_sum)) << rows << "x" << cols << " rank " << rank;
      out.resize(cols * rank);
      expected.resize(cols * rank);
      multiply_transposed(matrix.data(), rows, cols, left.data(), rank, out.data());
      scalar::multiply_transposed(matrix.data(), rows, cols, left.data(), rank, expected.data());
      ASSERT_TRUE(same_bits(out, expected)) << rows << "x" << cols << " rank " << rank;
      out.resize(rows * cols);
      expected.resize(rows * cols);
      reconstruct(left.data(), right.data(), rows, cols, rank, out.data());
      scalar::reconstruct(left.data(), right.data(), rows, cols, rank, expected.data());
      ASSERT_TRUE(same_bits(out, expected)) << rows << "x" << cols << " rank " << rank;
      std::vector<float> loss(rows * cols), expected_loss(rows * cols);
      reconstruct_keep_loss(left.data(), right.data(), right.data(), rows, cols, rank, sum.data(),
                            loss.data());
      scalar::reconstruct_keep_loss(left.data(), right.data(), right.data(), rows, cols, rank,
                                    expected_sum.data(), expected_loss.data());
      ASSERT_TRUE(same_bits(sum, expected)) << rows << "x" << cols << " rank " << rank;
      ASSERT_TRUE(same_bits(loss, expected_loss)) << rows << "x" << cols << " rank " << rank;
      auto in_place = matrix;
      kernels::add(in_place.data(), addend.data(), in_place.size(), in_place.data());
      reconstruct_keep_loss(left.data(), right.data(), right.data(), rows, cols, rank,
                            in_place.data(), in_place.data());
      ASSERT_TRUE(same_bits(in_place, expected_loss)) << rows << "x" << cols << " rank " << rank;
      const auto own = gaussian(cols * rank);
      kernels::add(matrix.data(), addend.data(), sum.size(), sum.data());
      expected_sum = sum;
      reconstruct_keep_loss(left.data(), right.data(), own.data(), rows, cols, rank, sum.data(),
                            loss.data());
      scalar::reconstruct_keep_loss(left.data(), right.data(), own.data(), rows, cols, rank,
                                    expected_sum.data(), expected_loss.data());
      ASSERT_TRUE(same_bits(sum, expected)) << rows << "x" << cols << " rank " << rank;
      ASSERT_TRUE(same_bits(loss, expected_loss)) << rows << "x" << cols << " rank " << rank;
    }
  }
}

TEST_P(KernelsTest, Gram) {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{1, 1},
                                   {1, 300},
                                   {300, 1},
                                   {15, 127},
                                   {16, 128},
                                   {17, 129},
                                   {129, 17},
                                   {40, 1000},
                                   {70, 70},
                                   {33, 260}}) {
    const auto matrix = gaussian(rows * cols);
    const std::size_t side = std::min(rows, cols);
    std::vector<double> out(side * side), expected(side * side);
    gram(matrix.data(), rows, cols, out.data());
    scalar::gram(matrix.data(), rows, cols, expected.data());
    ASSERT_TRUE(same_bits(out, expected)) << rows << "x" << cols;
  }
}

TEST_P(KernelsTest, RoundingLoss) {
  for (std::size_t count : kCounts) {
    const auto values = gaussian(count);
    for (const Range& range : {Range{-4, 4}, Range{-0.5f, 3}, Range{-1e-10f, 5}, Range{0, 2}}) {
      for (const Grid& grid : grids_over(range, 4)) {
        for (bool stochastic : {false, true}) {
          ASSERT_EQ(rounding_loss(values.data(), count, grid, stochastic),
                    scalar::rounding_loss(values.data(), count, grid, stochastic))
              << count << " on " << grid.below << " codes under zero";
        }
      }
    }
  }
}

TEST(RoundingLoss, IsTheDistanceOrItsExpectation) {
  const float values[] = {1.0f, 1.25f, 1.5f, 2.0f, 2.75f};
  EXPECT_EQ(scalar::rounding_loss(values, 5, {3, 0, 0, 1}, false), 0.0625f + 0.25f + 0.0625f);
  EXPECT_EQ(scalar::rounding_loss(values, 5, {3, 0, 0, 1}, true), 0.1875f + 0.25f + 0.1875f);
  EXPECT_EQ(scalar::rounding_loss(values, 5, {5, 0, 0, 0.25f}, true), 0);
}

TEST(RoundingLoss, HasAUnitOnEitherSideOfZero) {
  const float values[] = {-1.0f, -0.25f, 0.0f, 1.0f};
  // In squares of 2: a quarter of half a unit's loss, nothing, and that of half a unit.
  EXPECT_EQ(scalar::rounding_loss(values, 4, {2, 1, 1, 2}, false), 0.0625f / 4 + 0.25f);
  EXPECT_EQ(scalar::rounding_loss(values, 4, {2, 1, 1, 2}, true), 0.1875f / 4 + 0.25f);
}

TEST(RoundingLoss, CountsWhatIsBeyondTheGrid) {
  const float values[] = {-3.0f, 2.0f, 1.0f};
  EXPECT_EQ(scalar::rounding_loss(values, 3, {1, 0, 1, 1}, true), 9.0f + 1.0f);
}

TEST(Bf16Bounds, Enclose) {
  std::mt19937 generator(1);
  for (int i = 0; i < 100'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(generator()));
    if (!std::isfinite(value)) continue;
    const float below = bf16_value(bf16_below(value)), above = bf16_value(bf16_above(value));
    ASSERT_LE(below, value);
    ASSERT_GE(above, value);
    if (below == above) {
      ASSERT_EQ(below, value);
    }
  }
}

std::vector<DeadZone> dead_zones() {
  std::vector<DeadZone> zones;
  for (const float step : {0.01f, 0.7f, 0x1.8p-133f, 1e30f}) {
    zones.push_back({step, 0.5f, -0.125f, -0.0625f, 32767, 0});
    zones.push_back({step, 0.2f, 0.3125f, 0.25f, 32767, 0});
    zones.push_back({step, 0.5f, 0, 0, 20, 0});
    zones.push_back({step, 0.5f, -0.0625f, 0, 32767, 2});
    zones.push_back({step, 0.5f, 0, 0.0625f, 300, 7});
  }
  return zones;
}

TEST_P(KernelsTest, DeadZone) {
  for (std::size_t count : kCounts) {
    if (count > kLevelBlock) continue;
    for (const DeadZone& zone : dead_zones()) {
      auto values = gaussian(count, 8 * zone.step);
      for (std::size_t i = 0; i < count; i += 5) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
      if (count > 8) values[8] = 3e5f * zone.step;
      std::vector<std::uint32_t> tokens(count), expected(count);
      std::vector<std::uint8_t> raw(count + 8), expected_raw(count + 8);
      expected.resize(scalar::add_and_find_tokens(values.data(), nullptr, count, nullptr, zone,
                                                  expected.data(), expected_raw.data()));
      auto found = tokens;
      found.resize(tokens_of(values.data(), count, zone, found.data(), raw.data()));
      EXPECT_EQ(found, expected);
      EXPECT_EQ(raw, expected_raw);
      const std::vector<float> zeros(count, 0.0f), ones(count, zone.step);
      for (const auto& addend : {zeros, ones}) {
        auto sums = values, expected_sums = values;
        expected.resize(count);
        expected.resize(scalar::add_and_find_tokens(values.data(), addend.data(), count,
                                                    expected_sums.data(), zone, expected.data(),
                                                    expected_raw.data()));
        found.resize(count);
        found.resize(add_and_find_tokens(sums.data(), addend.data(), count, sums.data(), zone,
                                         found.data(), raw.data()));
        EXPECT_EQ(found, expected);
        EXPECT_EQ(raw, expected_raw);
        EXPECT_TRUE(same_bits(sums, expected_sums));
      }
      tokens.resize(tokens_of(values.data(), count, zone, tokens.data(), raw.data()));
      auto loss = values, expected_loss = values;
      keep_loss(loss.data(), count, zone);
      scalar::keep_loss(expected_loss.data(), count, zone);
      EXPECT_TRUE(same_bits(loss, expected_loss));

      std::vector<std::int16_t> levels(count, 0);
      for (const std::uint32_t token : tokens) {
        levels[token >> 16] = static_cast<std::int16_t>(token);
      }
      std::vector<float> sum(count, 0.0f), expected_sum(count, 0.0f);
      EXPECT_TRUE(add_levels(levels.data(), raw.data(), count, zone, sum.data()));
      EXPECT_TRUE(scalar::add_levels(levels.data(), raw.data(), count, zone, expected_sum.data()));
      EXPECT_TRUE(same_bits(sum, expected_sum));
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i] - sum[i]),
                  std::bit_cast<std::uint32_t>(loss[i]));
      }
    }
  }
}

TEST_P(KernelsTest, AddLevelsFindsTheOneThatIsTooLarge) {
  const DeadZone zone{1e37f, 0.5f, 0, 0, 20, 0};
  for (std::size_t count : {1, 16, 33}) {
    for (std::size_t at = 0; at < count; ++at) {
      std::vector<std::int16_t> levels(count, -20);
      std::vector<float> sum(count, 0.0f);
      EXPECT_TRUE(add_levels(levels.data(), nullptr, count, zone, sum.data()));
      levels[at] = -32768;
      std::fill(sum.begin(), sum.end(), 0.0f);
      EXPECT_FALSE(add_levels(levels.data(), nullptr, count, zone, sum.data())) << at;
      EXPECT_TRUE(scalar::all_finite(sum.data(), count));
    }
  }
}

TEST_P(KernelsTest, FindsNoTokensOfWhatIsNotFinite) {
  for (std::size_t count : {1, 16, 35}) {
    for (std::size_t at = 0; at < count; ++at) {
      for (const DeadZone& zone : dead_zones()) {
        for (const float wrong : {INFINITY, -INFINITY, NAN}) {
          auto values = gaussian(count), addend = gaussian(count);
          addend[at] = wrong;
          std::vector<std::uint32_t> tokens(count);
          std::vector<std::uint8_t> raw(count);
          EXPECT_EQ(tokens_of(addend.data(), count, zone, tokens.data(), raw.data()), kNotFinite);
          EXPECT_EQ(add_and_find_tokens(values.data(), addend.data(), count, values.data(), zone,
                                        tokens.data(), raw.data()),
                    kNotFinite);
        }
      }
    }
  }
}

TEST_P(KernelsTest, CountMagnitudes) {
  for (std::size_t count : kCounts) {
    auto a = gaussian(count), b = gaussian(count);
    if (count > 3) a[3] = INFINITY;
    if (count > 7) b[7] = -INFINITY;
    for (const float* addend : std::initializer_list<const float*>{nullptr, b.data()}) {
      std::vector<std::uint32_t> histogram(kMagnitudeBins), expected(kMagnitudeBins);
      for (std::size_t stride : {2u, 7u, 1u}) {
        std::fill(histogram.begin(), histogram.end(), 0u);
        std::fill(expected.begin(), expected.end(), 0u);
        EXPECT_EQ(count_magnitudes(a.data(), addend, count, histogram.data(), stride),
                  scalar::count_magnitudes(a.data(), addend, count, expected.data(), stride));
        EXPECT_EQ(histogram, expected);
      }
      EXPECT_EQ(std::accumulate(histogram.begin() + kFirstInfiniteBin, histogram.end(), 0u),
                (count > 3 ? 1u : 0u) + (addend != nullptr && count > 7 ? 1u : 0u));
    }
  }
}

}  // namespace
}  // namespace lgreco::kernels
