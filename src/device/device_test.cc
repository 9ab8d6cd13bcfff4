// Kernels of devices, run on the host with the threads of each phase in random order: the bytes,
// residuals and sums of the CPU's codec, bit for bit.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "lgreco/compressor.h"
#include "src/device/cast.h"
#include "src/device/quantize_nearest.h"
#include "src/device/quantize_stochastic.h"
#include "src/device/run_on_host.h"
#include "src/kernels/lloyd_max_table.h"

namespace lgreco::device {
namespace {

constexpr std::size_t kCounts[] = {1, 7, 8, 9, 63, 511, 512, 513, 1000, 1025, 5003};
constexpr std::size_t kThreads[] = {2, 5, 16, 32, 100, kMostThreads};

// What may lie in a layer. Buckets without zeros, with some and with nothing else; squares that
// vanish or overflow; sums that overflow; what cannot be sent at all.
struct Kind {
  const char* name;
  std::function<float(float normal, std::mt19937& random)> value;
};

const Kind kKinds[] = {
    {"normal", [](float x, auto&) { return x; }},
    {"positive", [](float x, auto&) { return std::abs(x); }},
    {"negative with zeros", [](float x, auto& r) { return r() % 4 == 0 ? 0.0f : -std::abs(x); }},
    {"zeros of both signs", [](float, auto& r) { return r() % 2 == 0 ? 0.0f : -0.0f; }},
    {"mostly zeros", [](float x, auto& r) { return r() % 50 == 0 ? x : -0.0f; }},
    {"few large", [](float x, auto& r) { return r() % 40 == 0 ? 1e4f * x : 1e-3f * x; }},
    {"small", [](float x, auto&) { return 1e-30f * x; }},
    {"subnormal", [](float x, auto&) { return 1e-42f * x; }},
    {"large", [](float x, auto&) { return 1e30f * x; }},
    {"largest", [](float x, auto&) { return std::clamp(x, -1.0f, 1.0f) * 3.4e38f; }},
    {"of any size",
     [](float x, auto& r) { return std::ldexp(x, static_cast<int>(r() % 80) - 40); }},
    {"midway between 16-bit values",
     [](float x, auto& r) {
       const std::uint32_t half = r() % 2 == 0 ? 0x8000u : 0x1000u;  // bf16, fp16
       return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) & ~(2 * half - 1)) | half);
     }},
    {"infinite", [](float x, auto& r) { return r() % 700 == 0 ? INFINITY : x; }},
    {"not a number", [](float x, auto& r) { return r() % 700 == 0 ? std::nanf("") : x; }},
};

std::vector<float> draw(const Kind& kind, std::size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = kind.value(normal(random), random);
  return values;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Payloads begin at an odd address.
struct Payload {
  explicit Payload(std::size_t size) : memory(size + 1, 0x5A) {}
  std::uint8_t* begin() { return memory.data() + 1; }
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(memory)).subspan(1); }
  std::vector<std::uint8_t> memory;
};

struct Encoded {
  bool is_refused;
  std::vector<float> loss;
  std::vector<std::uint8_t> payload;

  bool operator==(const Encoded& other) const {
    if (is_refused || other.is_refused) return is_refused == other.is_refused;
    return payload == other.payload && same_bits(loss, other.loss);
  }
};

struct Decoded {
  bool is_refused;
  std::vector<float> sum;

  bool operator==(const Decoded& other) const {
    if (is_refused || other.is_refused) return is_refused == other.is_refused;
    return same_bits(sum, other.sum);
  }
};

// Instead of their memory.
void PrintTo(const Encoded& encoded, std::ostream* out) {
  *out << (encoded.is_refused ? "refused" : "a payload and a loss");
}
void PrintTo(const Decoded& decoded, std::ostream* out) {
  *out << (decoded.is_refused ? "refused" : "a sum");
}

// One way to run a kernel.
struct HostRun {
  std::size_t threads;
  std::mt19937* random;
  int missing = -1;  // barrier

  template <typename Kernel>
  void operator()(const Kernel& kernel) const {
    run_on_host(kernel, threads, *random, missing);
  }
};

struct Case {
  std::string level;
  std::vector<float> gradient, residual;  // the latter may be empty
  RandomKey key;
  std::size_t first_element;
};

class Codec {
 public:
  explicit Codec(const std::string& level)
      : level_(parse_level(level)), on_cpu_(coded_compressor(level_)) {}

  Encoded encode(const Case& c) const {
    auto values = c.gradient;
    Payload payload(on_cpu_->payload_bytes(values.size()));
    const bool is_sent =
        on_cpu_->encode_keep_loss(values, c.residual, c.key, c.first_element, payload.bytes());
    return {!is_sent, std::move(values), std::move(payload.memory)};
  }

  Encoded encode(const Case& c, const HostRun& run) const {
    auto values = c.gradient;
    const float* residual = c.residual.empty() ? nullptr : c.residual.data();
    Payload payload(on_cpu_->payload_bytes(values.size()));
    unsigned refused = 0;
    if (level_.method == Method::cast && level_.values == DType::bf16) {
      run(CastKeepLoss<Bf16>{{values.size()}, values.data(), residual, payload.begin(), &refused});
    } else if (level_.method == Method::cast) {
      run(CastKeepLoss<F16>{{values.size()}, values.data(), residual, payload.begin(), &refused});
    } else if (level_.rounding == Rounding::nearest) {
      run(QuantizeNearestKeepLoss{buckets(values.size()), kernels::lloyd_max_table(), values.data(),
                                  residual, payload.begin(), &refused});
    } else {
      run(QuantizeStochasticKeepLoss{buckets(values.size()), c.key, c.first_element, values.data(),
                                     residual, payload.begin(), &refused});
    }
    return {refused != 0, std::move(values), std::move(payload.memory)};
  }

  Decoded decode(std::vector<std::uint8_t> payload, std::size_t count) const {
    std::vector<float> sum(count, 0.25f);
    const auto bytes = std::as_bytes(std::span(payload)).subspan(1);
    const bool is_refused = !on_cpu_->decode_add(bytes, sum).is_ok();
    return {is_refused, std::move(sum)};
  }

  Decoded decode(std::vector<std::uint8_t> payload, std::size_t count, const HostRun& run) const {
    std::vector<float> sum(count, 0.25f);
    const std::uint8_t* begin = payload.data() + 1;
    unsigned refused = 0;
    if (level_.method == Method::cast && level_.values == DType::bf16) {
      run(CastAdd<Bf16>{{count}, begin, sum.data(), &refused});
    } else if (level_.method == Method::cast) {
      run(CastAdd<F16>{{count}, begin, sum.data(), &refused});
    } else if (level_.rounding == Rounding::nearest) {
      run(DequantizeNearestAdd{buckets(count), kernels::lloyd_max_table(), begin, sum.data(),
                               &refused});
    } else {
      run(DequantizeStochasticAdd{buckets(count), begin, sum.data(), &refused});
    }
    return {refused != 0, std::move(sum)};
  }

 private:
  Buckets buckets(std::size_t count) const {
    return {count, level_.bucket, static_cast<int>(level_.parameter)};
  }

  Level level_;
  std::unique_ptr<CodedCompressor> on_cpu_;
};

Case draw_case(const std::string& level, const Kind& kind, std::size_t count,
               std::mt19937& random) {
  Case c{level, draw(kind, count, random), {}, {random(), random(), random()}, 0};
  if (random() % 4 != 0) c.residual = draw(kind, count, random);
  // Also where the counter of random numbers overflows, within a layer.
  c.first_element = 1024 * (random() % 5);
  if (random() % 4 == 0) c.first_element += (std::uint64_t{1} << 32) - 2048;
  return c;
}

std::vector<std::string> levels() {
  std::vector<std::string> levels = {"cast:bf16", "cast:fp16"};
  for (int bits = 1; bits <= 8; ++bits) {
    for (const char* rounding : {"nearest", "stochastic"}) {
      for (const char* bucket : {"8", "64", "256", "512", "4096"}) {
        levels.push_back("quantize:" + std::to_string(bits) + ":bucket=" + bucket +
                         ":rounding=" + rounding);
      }
    }
  }
  return levels;
}

class DeviceTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Levels, DeviceTest, testing::ValuesIn(levels()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(c) ? c : '_';
  return name;
});

TEST_P(DeviceTest, GivesTheBitsOfTheCpu) {
  std::mt19937 random(7);
  const Codec codec(GetParam());
  for (std::size_t count : kCounts) {
    for (const Kind& kind : kKinds) {
      const HostRun run{kThreads[random() % std::size(kThreads)], &random};
      SCOPED_TRACE(std::to_string(count) + " values, " + kind.name + ", " +
                   std::to_string(run.threads) + " threads");
      const Case c = draw_case(GetParam(), kind, count, random);
      const Encoded expected = codec.encode(c);
      ASSERT_EQ(codec.encode(c, run), expected);
      if (expected.is_refused) continue;
      ASSERT_EQ(codec.decode(expected.payload, count, run), codec.decode(expected.payload, count));
    }
  }
}

TEST_P(DeviceTest, RefusesThePayloadsThatTheCpuRefuses) {
  std::mt19937 random(8);
  const Codec codec(GetParam());
  int refused = 0;
  for (int repeat = 0; repeat < 400; ++repeat) {
    const std::size_t count = kCounts[random() % std::size(kCounts)];
    const HostRun run{32, &random};
    auto payload = codec.encode(draw_case(GetParam(), kKinds[0], count, random)).payload;
    const std::size_t at =
        repeat % 2 == 0 ? payload.size() - 1 : 1 + random() % 4 % (payload.size() - 1);
    payload[at] = static_cast<std::uint8_t>(random() % 3 == 0 ? 0xFF : random());
    const Decoded expected = codec.decode(payload, count);
    refused += expected.is_refused ? 1 : 0;
    ASSERT_EQ(codec.decode(payload, count, run), expected) << count << " values, byte " << at;
  }
  EXPECT_GT(refused, 0);
}

// Scales are rounded so coarsely that sums in another order rarely show in the bytes.
TEST(QuantizeNearest, SumsInTheOrderOfTheCpu) {
  std::mt19937 random(10);
  for (const Kind& kind : kKinds) {
    for (std::size_t count : {1, 15, 100, 511, 5003}) {
      SCOPED_TRACE(std::to_string(count) + " values, " + kind.name);
      auto values = draw(kind, count, random);
      const auto residual = draw(kind, count, random);
      auto on_cpu = values;
      kernels::Moments expected;
      if (!kernels::add_and_find_moments(residual.data(), count, on_cpu.data(), expected)) continue;
      Payload payload(8192);
      unsigned refused = 0;
      const QuantizeNearestKeepLoss kernel{{count, 8192, 8}, kernels::lloyd_max_table(),
                                           values.data(),    residual.data(),
                                           payload.begin(),  &refused};
      QuantizeNearestKeepLoss::Shared shared;
      for (int phase = 0; phase < QuantizeNearestKeepLoss::kPhases - 1; ++phase) {
        for (const std::size_t index : shuffled(32, random)) {
          kernel.run(phase, {0, index, 32}, shared);
        }
      }
      EXPECT_EQ(shared.moments.count, expected.count);
      EXPECT_EQ(shared.moments.unit, expected.unit);
      EXPECT_EQ(shared.moments.largest, expected.largest);
      EXPECT_EQ(shared.moments.sum, expected.sum);
      EXPECT_EQ(shared.moments.sum_squares, expected.sum_squares);
    }
  }
}

// With a barrier fewer, bytes differ: each is needed, and a missing one would be noticed.
TEST(MissingBarrier, IsFound) {
  const auto find = [](const std::string& level, int phases) {
    const Codec codec(level);
    for (int missing = 0; missing + 1 < phases; ++missing) {
      std::mt19937 random(9);
      int cases = 0, found = 0;
      for (const Kind& kind : kKinds) {
        const Case c = draw_case(level, kind, 5003, random);
        ++cases;
        found += codec.encode(c, {32, &random, missing}) == codec.encode(c) ? 0 : 1;
      }
      EXPECT_GT(found, 0) << level << ", after phase " << missing << ", " << cases << " cases";
    }
  };
  find("quantize:4", QuantizeNearestKeepLoss::kPhases);
  find("quantize:4:rounding=stochastic", QuantizeStochasticKeepLoss::kPhases);
}

}  // namespace
}  // namespace lgreco::device
