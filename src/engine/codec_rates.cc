#include "src/engine/codec_rates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "lgreco/compressor.h"
#include "lgreco/network.h"
#include "src/base/random.h"
#include "src/base/stopwatch.h"

namespace lgreco {
namespace {

constexpr int kAttempts = 5;
constexpr MatrixShape kSample{.rows = 256, .cols = 1024};

std::vector<float> sample() {
  const RandomStream stream = stream_of({});
  std::vector<float> values(kSample.count());
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = uniform(stream, static_cast<std::uint32_t>(i)) - 0.5f;
  }
  return values;
}

template <typename Work>
double least_seconds(const Work& work) {
  double least = std::numeric_limits<double>::infinity();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    double seconds = 0;
    {
      const Stopwatch watch(seconds);
      work();
    }
    least = std::min(least, seconds);
  }
  return least;
}

double coded_seconds(const CodedCompressor& codec, std::span<const float> residual, int ranks) {
  std::vector<std::byte> payload(codec.payload_bytes(residual.size()));
  std::vector<float> values(residual.size()), result(residual.size());
  const double encode =
      least_seconds([&] { (void)codec.encode_keep_loss(values, residual, {}, 0, payload); });
  const double decode = least_seconds([&] { (void)codec.decode_add(payload, result); });
  return coding_seconds(encode, decode, ranks);
}

double linear_seconds(Level level, std::vector<float> residual, int ranks) {
  const double largest = std::min(kSample.rows, kSample.cols);
  const double excess = std::max(1.0, level.parameter / largest);  // of a rank that does not fit
  level.parameter /= excess;
  const auto compressor = linear_compressor(level);
  LinearState state;
  compressor->prepare(kSample, {}, state);
  std::vector<std::vector<float>> rounds;
  rounds.reserve(static_cast<std::size_t>(compressor->rounds()));
  for (int round = 0; round < compressor->rounds(); ++round) {
    rounds.emplace_back(compressor->round_floats(kSample, round));
  }
  std::vector<std::span<float>> means(rounds.begin(), rounds.end());
  std::vector<float> values(residual.size());
  double seconds = least_seconds([&] {
    (void)compressor->encode_first_round(values, residual, kSample, {}, state, rounds[0]);
    for (std::size_t round = 1; round < rounds.size(); ++round) {
      compressor->encode_round(static_cast<int>(round), values, kSample, {}, state,
                               std::span(means).first(round), rounds[round]);
    }
    compressor->decode_keep_loss(kSample, {}, means, means.back(), values, residual);
  });
  for (std::size_t round = 0; round < rounds.size(); ++round) {
    const auto codec = factor_codec(level, kSample, static_cast<int>(round));
    seconds += coded_seconds(*codec, rounds[round], ranks);
  }
  return excess * seconds;
}

bool equal_but_parameter(Level a, const Level& b) {
  a.parameter = b.parameter;
  return a == b;
}

/// Seconds of the sample at linear levels that differ in their parameter alone, by that.
class LinearSeconds {
 public:
  LinearSeconds(const Level& like, std::span<const Level> levels, const std::vector<float>& values,
                int ranks)
      : like_(like) {
    for (const Level& level : levels) {
      if (!covers(level)) continue;
      if (!least_ || level.parameter < least_->parameter) least_ = level;
      if (!most_ || level.parameter > most_->parameter) most_ = level;
    }
    at_least_ = linear_seconds(*least_, values, ranks);
    at_most_ = linear_seconds(*most_, values, ranks);
  }

  bool covers(const Level& level) const { return equal_but_parameter(level, like_); }

  double of(const Level& level) const {
    const double span = most_->parameter - least_->parameter;
    const double part = span > 0 ? (level.parameter - least_->parameter) / span : 0;
    return std::lerp(at_least_, at_most_, part);
  }

 private:
  Level like_;
  std::optional<Level> least_, most_;
  double at_least_ = 0, at_most_ = 0;
};

}  // namespace

std::vector<double> seconds_per_element(std::span<const Level> levels, int ranks) {
  const std::vector<float> values = sample();
  std::vector<LinearSeconds> linear;
  std::vector<double> rates;
  for (const Level& level : levels) {
    double seconds;
    if (is_coded(level.method)) {
      seconds = coded_seconds(*coded_compressor(level), values, ranks);
      if (level.gather_parameter != 0) {
        const auto of_mean = coded_compressor(gather_level(level));
        seconds = (seconds + coded_seconds(*of_mean, values, ranks)) / 2;
      }
    } else {
      auto known = std::ranges::find_if(
          linear, [&](const LinearSeconds& group) { return group.covers(level); });
      if (known == linear.end()) {
        known = linear.emplace(linear.end(), level, levels, values, ranks);
      }
      seconds = known->of(level);
    }
    rates.push_back(seconds / static_cast<double>(values.size()));
  }
  return rates;
}

}  // namespace lgreco
