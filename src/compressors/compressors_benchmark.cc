// Speed of compressors and kernels, one repetition of one case at a time, so that the caller can
// take what it compares in turn: reads names of cases from standard input, a line each, and answers
// with the seconds that one pass took on this thread. Without input: lists the cases as JSON.

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "lgreco/compressor.h"
#include "src/base/random.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/low_rank.h"
#include "src/kernels/quantize.h"
#include "src/kernels/rounding_loss.h"
#include "src/kernels/topk.h"

namespace lgreco {
namespace {

constexpr std::size_t kCount = 16'000'000;  // of most cases: larger than the caches
constexpr std::size_t kTopKCount = 10'000'000;
constexpr MatrixShape kShape{512, 4608};  // of low_rank

struct Case {
  std::size_t count;  // values of gradient that one pass handles
  std::function<void()> pass;
};

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::vector<float> gaussian(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

class Cases {
 public:
  Cases() {
    add_memory();
    add_kernels();
    for (const char* level : {"dense", "cast:bf16", "cast:fp16", "quantize:1", "quantize:2",
                              "quantize:4", "quantize:4:rounding=nearest", "quantize:8"}) {
      add_coded(level, kCount);
    }
    for (const char* level : {"topk:0.01", "topk:0.001"}) add_coded(level, kTopKCount);
    for (const char* level : {"low_rank:1", "low_rank:4", "low_rank:16"}) add_linear(level);
  }

  const std::map<std::string, Case>& all() const { return cases_; }

 private:
  // Passes that do nothing but move memory.
  void add_memory() {
    for (std::size_t count : {kCount, kTopKCount, kShape.count()}) {
      const std::string size = " " + std::to_string(count);
      cases_["memcpy" + size] = {
          count,
          [=, this] { std::memcpy(other_.data(), gradient_.data(), count * sizeof(float)); }};
      cases_["e = g + e" + size] = {
          count,
          [=, this] { kernels::add(gradient_.data(), other_.data(), count, other_.data()); }};
      cases_["e = f * e" + size] = {
          count, [=, this] { kernels::scale(other_.data(), -1.0f, count, other_.data()); }};
    }
  }

  void add_kernel(const char* name, std::function<void()> pass) {
    cases_[std::string("kernel ") + name] = {kCount, std::move(pass)};
  }

  void add_kernels() {
    const float* g = gradient_.data();
    auto* halves = reinterpret_cast<std::uint16_t*>(payload_.data());
    add_kernel("add", [=, this] { kernels::add(g, other_.data(), kCount, other_.data()); });
    add_kernel("scale", [=, this] { kernels::scale(g, 0.5f, kCount, other_.data()); });
    add_kernel("all_finite", [=, this] { sink_ = kernels::all_finite(g, kCount); });
    add_kernel("max_magnitude", [=, this] { sink_ = kernels::max_magnitude(g, kCount); });
    add_kernel("sum_squares", [=, this] { sink_ = kernels::sum_squares(g, kCount); });
    add_kernel("range_of", [=, this] { sink_ = kernels::range_of(g, kCount).low; });
    add_kernel("to_bf16", [=] { kernels::to_bf16(g, kCount, halves); });
    add_kernel("from_bf16", [=, this] { kernels::from_bf16(halves, kCount, other_.data()); });
    add_kernel("to_f16", [=] { kernels::to_f16(g, kCount, halves); });
    add_kernel("from_f16", [=, this] { kernels::from_f16(halves, kCount, other_.data()); });
  }

  // One step with error feedback; what was not sent is the residual of the next one.
  void add_coded(const std::string& spelling, std::size_t count) {
    const std::shared_ptr<CodedCompressor> codec = coded_compressor(parse_level(spelling));
    const std::size_t bytes = codec->payload_bytes(count);
    const auto payload = std::make_shared<std::vector<std::byte>>(bytes);
    cases_["encode " + spelling] = {
        count, [=, this] {
          const std::span<float> values(other_.data(), count);
          const auto gradient = std::span(gradient_).first(count);
          if (!codec->encode_keep_loss(values, gradient, {1, ++step_, 0}, 0, *payload)) {
            throw std::runtime_error(spelling);
          }
        }};
    cases_["decode " + spelling] = {
        count, [=, this] {
          if (!codec->decode_add(*payload, std::span(other_).first(count)).is_ok()) {
            throw std::runtime_error(spelling);
          }
        }};
  }

  void add_linear(const std::string& spelling) {
    struct Buffers {
      LinearState state;
      std::vector<std::vector<float>> rounds;
      std::vector<float> residual = std::vector<float>(kShape.count(), 0.0f);
      std::vector<float> result = std::vector<float>(kShape.count(), 0.0f);
    };
    const std::shared_ptr<LinearCompressor> codec = linear_compressor(parse_level(spelling));
    const auto buffers = std::make_shared<Buffers>();
    codec->prepare(kShape, {}, buffers->state);
    for (int round = 0; round < codec->rounds(); ++round) {
      buffers->rounds.emplace_back(codec->round_floats(kShape, round));
    }
    cases_["step " + spelling] = {
        kShape.count(), [=, this] {
          auto& [state, rounds, residual, result] = *buffers;
          const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
          kernels::add(gradient_.data(), residual.data(), kShape.count(), residual.data());
          if (!kernels::all_finite(residual.data(), residual.size()))
            throw std::runtime_error(spelling);
          for (std::size_t round = 0; round < rounds.size(); ++round) {
            codec->encode_round(static_cast<int>(round), residual, kShape, state, {},
                                std::span(means).first(round), rounds[round]);
          }
          codec->decode(kShape, means, result);
          kernels::subtract(residual.data(), result.data(), residual.size(), residual.data());
          codec->commit(kShape, {}, means, state);
        }};
  }

  std::vector<float> gradient_ = gaussian(kCount, 1);
  std::vector<float> other_ = std::vector<float>(kCount, 0.0f);
  std::vector<std::byte> payload_ = std::vector<std::byte>(4 * kCount);
  std::uint64_t step_ = 0;
  volatile double sink_ = 0;
  std::map<std::string, Case> cases_;
};

}  // namespace
}  // namespace lgreco

int main() {
  const lgreco::Cases cases;
  std::string name;
  while (std::getline(std::cin, name)) {
    const auto found = cases.all().find(name);
    if (found == cases.all().end()) {
      std::cerr << "no case '" << name << "'\n";
      return 1;
    }
    const double begin = lgreco::thread_seconds();
    found->second.pass();
    std::cout << lgreco::thread_seconds() - begin << std::endl;
  }
}
