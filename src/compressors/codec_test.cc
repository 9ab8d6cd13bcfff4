#include "lgreco/codec.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lgreco/status.h"

namespace lgreco {
namespace {

constexpr MatrixShape kShape{24, 50};
constexpr RandomKey kKey{.seed = 1, .step = 2, .layer = 3};

std::vector<float> some_values() {
  std::vector<float> values(kShape.count());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * i));
  return values;
}

TEST(Codec, EveryMethodComesBack) {
  const std::vector<float> values = some_values();
  for (const MethodRow& row : method_table()) {
    const Level level = parse_level(row.example);
    const auto payload = encode(values, kShape, level, kKey);
    EXPECT_EQ(payload.size(), payload_bytes(level, kShape)) << row.name;
    std::vector<float> decoded;
    ASSERT_TRUE(decode(payload, kShape, level, kKey, decoded).is_ok()) << row.name;
    // As analyze says, up to one draw of a rounding and one step of subspace iteration.
    double squares = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      squares += std::pow(double{values[i]} - double{decoded[i]}, 2);
    }
    const double expected = analyze(values, kShape, std::vector{level})[0];
    EXPECT_LE(std::sqrt(squares), 1.5 * expected) << row.name;
  }
}

TEST(Codec, RefusesWhatDoesNotFit) {
  const std::vector<float> values = some_values();
  for (const MethodRow& row : method_table()) {
    const Level level = parse_level(row.example);
    EXPECT_THROW((void)encode(std::span(values).first(10), kShape, level, kKey), ConfigError);
    auto payload = encode(values, kShape, level, kKey);
    payload.pop_back();
    std::vector<float> decoded;
    EXPECT_FALSE(decode(payload, kShape, level, kKey, decoded).is_ok()) << row.name;
    EXPECT_TRUE(decoded.empty()) << "memory was taken for a payload that cannot fit";
  }
}

TEST(Codec, RefusesValuesThatAreTooLarge) {
  std::vector<float> values = some_values();
  values[7] = 1e38f;
  EXPECT_THROW((void)encode(values, kShape, parse_level("cast:fp16"), kKey), ConfigError);
  values[7] = INFINITY;
  EXPECT_THROW((void)encode(values, kShape, parse_level("low_rank:2:factors=bf16"), kKey),
               ConfigError);
}

}  // namespace
}  // namespace lgreco
