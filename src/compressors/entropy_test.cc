// How good `entropy` is, beside an ideal entropy-coded quantiser of the same form.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "lgreco/compressor.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

double squares(std::span<const float> values) {
  double sum = 0;
  for (float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

struct Sample {
  const char* name;
  std::vector<float> values;
};

std::vector<Sample> samples(std::size_t count) {
  std::mt19937 generator(5);
  std::normal_distribution<double> normal;
  std::exponential_distribution<double> exponential;
  std::student_t_distribution<double> student(3);
  std::vector<Sample> all = {{"normal", {}}, {"Laplace", {}}, {"cubed", {}}, {"Student", {}}};
  for (std::size_t i = 0; i < count; ++i) {
    const double x = normal(generator);
    all[0].values.push_back(static_cast<float>(x));
    const double sign = generator() % 2 == 0 ? 1 : -1;
    all[1].values.push_back(static_cast<float>(sign * exponential(generator)));
    all[2].values.push_back(static_cast<float>(x * x * x));
    all[3].values.push_back(static_cast<float>(student(generator)));
  }
  return all;
}

struct Point {
  double bits;
  double loss;
};

// Zeroth-order entropy, and the loss with a centroid for each code.
Point ideal_at(std::span<const float> values, double step, double rounding) {
  struct Cell {
    double count = 0, sum = 0, squares = 0;
  };
  std::vector<Cell> cells;
  for (float value : values) {
    const double x = std::abs(static_cast<double>(value));
    const auto code = static_cast<std::size_t>(std::floor(x / step + rounding));
    if (code >= cells.size()) cells.resize(code + 1);
    cells[code].count += 1;
    cells[code].sum += x;
    cells[code].squares += x * x;
  }
  const auto count = static_cast<double>(values.size());
  Point point{(count - cells[0].count) / count, cells[0].squares};  // a sign each
  for (std::size_t code = 0; code < cells.size(); ++code) {
    const Cell& cell = cells[code];
    if (cell.count == 0) continue;
    point.bits -= cell.count / count * std::log2(cell.count / count);
    if (code > 0) point.loss += cell.squares - cell.sum * cell.sum / cell.count;
  }
  return point;
}

// The fewest bits a value for that loss.
double ideal_bits(std::span<const float> values, double loss) {
  double least = 64;
  for (double rounding : {0.5, 0.35, 0.2}) {
    double low = 1e-4, high = 1e2;
    for (int i = 0; i < 20; ++i) {
      const double step = std::sqrt(low * high);
      (ideal_at(values, step, rounding).loss > loss ? high : low) = step;
    }
    least = std::min(least, ideal_at(values, low, rounding).bits);
  }
  return least;
}

double bits_over_ideal(std::span<const float> values, double rate) {
  const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
  std::vector<std::byte> payload(codec->payload_bytes(values.size()));
  std::vector<float> lost(values.begin(), values.end());
  EXPECT_TRUE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
  const double bits = 8 * static_cast<double>(payload.size()) / static_cast<double>(values.size());
  return bits / ideal_bits(values, squares(lost));
}

TEST(Entropy, IsNearAnIdealCode) {
  for (const Sample& sample : samples(1 << 16)) {
    for (double rate : {0.03, 0.125, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0}) {
      const double factor = bits_over_ideal(sample.values, rate);
      EXPECT_LE(factor, rate >= 1 ? 1.10 : rate >= 0.5 ? 1.2 : 1.35) << sample.name << " " << rate;
      RecordProperty(std::string(sample.name) + "_" + std::to_string(rate), std::to_string(factor));
    }
  }
}

// Between the streams are the bytes that nothing needed.
TEST(Entropy, UsesThePayload) {
  for (const Sample& sample : samples(1 << 16)) {
    for (double rate : {0.1, 0.5, 1.0, 2.0, 4.0, 8.0}) {
      const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
      std::vector<std::byte> payload(codec->payload_bytes(sample.values.size()));
      ASSERT_TRUE(codec->encode(sample.values, {}, 0, payload));
      std::size_t longest = 0, run = 0;
      for (std::byte byte : payload) {
        run = byte == std::byte{0} ? run + 1 : 0;
        longest = std::max(longest, run);
      }
      EXPECT_LE(static_cast<double>(longest), 0.02 * static_cast<double>(payload.size()))
          << sample.name << " " << rate;
    }
  }
}

// Also where a step does not even fit a single level.
TEST(Entropy, AnyCountAtAnyRate) {
  const std::vector<float> values = samples(300)[2].values;
  for (double rate : {0.01, 0.1, 0.7, 1.0, 2.0, 5.0, 8.0}) {
    const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
    for (std::size_t count = 1; count <= values.size(); ++count) {
      const std::span<const float> some(values.data(), count);
      std::vector<std::byte> payload(codec->payload_bytes(count));
      std::vector<float> lost(some.begin(), some.end());
      ASSERT_TRUE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
      ASSERT_LE(squares(lost), squares(some));
      std::vector<float> decoded(count, 0.0f);
      ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok()) << count << " at " << rate;
    }
  }
}

// Many values alike, of which all or none have a level with any one step.
std::vector<Sample> ties(std::size_t count) {
  std::mt19937 generator(11);
  std::normal_distribution<float> normal;
  const auto draw = [&](auto value_of) {
    std::vector<float> values(count);
    for (float& value : values) value = value_of(normal(generator), generator() % 10);
    return values;
  };
  const auto sign = [](float x) { return x < 0 ? -1.0f : 1.0f; };
  return {{"constant", draw([](float, auto) { return 1.0f; })},
          {"signs", draw([&](float x, auto) { return sign(x); })},
          {"three in ten", draw([&](float x, auto of_ten) { return of_ten < 3 ? sign(x) : 0.0f; })},
          {"half", draw([&](float x, auto of_ten) { return of_ten < 5 ? sign(x) : 0.0f; })},
          {"clipped", draw([](float x, auto) { return std::clamp(3 * x, -1.0f, 1.0f); })},
          {"noise", draw([](float x, auto) { return 1 + 1e-3f * x; })},
          {"half alike", draw([](float x, auto of_ten) { return of_ten < 5 ? 0.5f : x; })}};
}

// What is owed of a gradient that stays the same: it settles where values wait for their turn.
TEST(Entropy, SendsTiesUnderErrorFeedback) {
  constexpr int kSteps = 300;
  for (std::size_t count : {1025, 8192}) {
    for (const Sample& sample : ties(count)) {
      for (double rate : {0.1, 0.6, 1.0, 2.0, 6.0}) {
        SCOPED_TRACE(std::string(sample.name) + ", " + std::to_string(count) + " values at " +
                     std::to_string(rate));
        const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
        std::vector<std::byte> payload(codec->payload_bytes(count));
        std::vector<float> owed(count, 0.0f);
        double after_100 = 0;
        for (int step = 1; step <= kSteps; ++step) {
          for (std::size_t i = 0; i < count; ++i) owed[i] += sample.values[i];
          const double before = squares(owed);
          ASSERT_TRUE(codec->encode_keep_loss(owed, {}, {}, 0, payload));
          ASSERT_LT(squares(owed), before) << step;
          if (step == 100) after_100 = std::sqrt(squares(owed));
        }
        const double after_300 = std::sqrt(squares(owed)), each = std::sqrt(squares(sample.values));
        EXPECT_LE(after_300, 1.5 * after_100 + 0.5 * each);
        EXPECT_LE(after_300, 8 / rate * each);
      }
    }
  }
}

// However little there is room for, and wherever it is.
TEST(Entropy, OneValueFits) {
  for (double rate : {0.01, 0.02, 0.1, 8.0}) {
    const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
    std::mt19937 generator(3);
    for (int i = 0; i < 2000; ++i) {
      const std::size_t count = 1 + generator() % (i % 2 == 0 ? 300 : 20'000);
      const std::size_t at = generator() % count;
      std::vector<float> values(count, 0.0f), decoded(count, 0.0f);
      values[at] = -3.0f;
      std::vector<std::byte> payload(codec->payload_bytes(count));
      ASSERT_TRUE(codec->encode(values, {}, 0, payload));
      ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok());
      ASSERT_NEAR(decoded[at], -3.0f, 1.0f) << at << " of " << count << " at " << rate;
    }
  }
}

// Values that are nothing like what the tables are made for: the code fits all the same.
TEST(Entropy, ValuesInClumps) {
  std::mt19937 generator(9);
  std::normal_distribution<float> normal;
  for (std::size_t period : {100, 3000, 20'000}) {
    std::vector<float> values(60'000, 0.0f);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i / (period / 10) % 10 == 3) values[i] = normal(generator);
      if (i % 2 == 0) values[i] = std::ldexp(1.0f, static_cast<int>(i % 5) - 12);
    }
    for (double rate : {0.1, 0.5, 1.0, 3.0}) {
      const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
      std::vector<std::byte> payload(codec->payload_bytes(values.size()));
      auto lost = values;
      ASSERT_TRUE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
      std::vector<float> decoded(values.size(), 0.0f);
      ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok());
      EXPECT_LT(squares(lost), squares(values));
    }
  }
}

// Of so many values the step is chosen by a sample.
constexpr std::size_t kSampled = (std::size_t{3} << 19) + 2345;

TEST(Entropy, FillsThePayloadOfManyValues) {
  const auto all = samples(kSampled);
  const std::span<const float> normal = all[0].values, student = all[3].values;
  for (const auto values : {normal, student}) {
    for (double rate : {0.05, 0.5, 2.0, 8.0}) {
      const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
      const auto payload_of = [&](std::span<const float> some) {
        return std::vector<std::byte>(codec->payload_bytes(some.size()));
      };
      const auto loss_of = [&](std::span<const float> some) {
        auto payload = payload_of(some);
        std::vector<float> lost(some.begin(), some.end());
        EXPECT_TRUE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
        return squares(lost) / static_cast<double>(some.size());
      };
      // As good as what all values would choose, which those of a piece that is not sampled do.
      const double loss = loss_of(values), exact = loss_of(values.first(kSampled / 2));
      EXPECT_LE(loss, 1.05 * exact) << rate;

      auto payload = payload_of(values), in_one = payload_of(values);
      std::vector<float> lost(values.begin(), values.end()), decoded(values.size(), 0.0f);
      std::vector<float> half(values.begin(), values.end());
      for (float& value : half) value *= 0.5f;
      auto sums = half;
      ASSERT_TRUE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
      ASSERT_TRUE(codec->encode_keep_loss(sums, half, {}, 0, in_one));
      EXPECT_EQ(in_one, payload);
      EXPECT_EQ(sums, lost);
      ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok());
      for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i] - decoded[i], lost[i]);
    }
  }
}

// What a sample misses, or finds alone.
TEST(Entropy, SendsWhatASampleDoesNotTell) {
  std::mt19937 generator(4);
  std::normal_distribution<float> normal;
  for (const bool in_sample : {false, true}) {
    for (const float background : {0.0f, 1e-3f}) {
      std::vector<float> values(kSampled);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const bool is_sampled = i / 64 % 3 == 0;
        values[i] = (is_sampled == in_sample ? 1.0f : background) * normal(generator);
      }
      for (double rate : {0.1, 2.0}) {
        const auto codec = coded_compressor({.method = Method::entropy, .parameter = rate});
        std::vector<std::byte> payload(codec->payload_bytes(values.size()));
        std::vector<float> lost = values;
        ASSERT_TRUE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
        EXPECT_LT(squares(lost), (rate > 1 ? 0.1 : 0.9) * squares(values));
        lost = values;
        lost[kSampled - 1] = lost[100] = NAN;
        EXPECT_FALSE(codec->encode_keep_loss(lost, {}, {}, 0, payload));
      }
    }
  }
  for (std::size_t at : {std::size_t{0}, std::size_t{100}, kSampled - 1}) {
    const auto codec = coded_compressor({.method = Method::entropy, .parameter = 0.1});
    std::vector<float> values(kSampled, 0.0f), decoded(kSampled, 0.0f);
    values[at] = -3.0f;
    std::vector<std::byte> payload(codec->payload_bytes(kSampled));
    ASSERT_TRUE(codec->encode(values, {}, 0, payload));
    ASSERT_TRUE(codec->decode_add(payload, decoded).is_ok());
    EXPECT_NEAR(decoded[at], -3.0f, 1.0f) << at;
    values[at] = INFINITY;
    EXPECT_FALSE(codec->encode_keep_loss(values, {}, {}, 0, payload)) << at;
  }
}

}  // namespace
}  // namespace lgreco
