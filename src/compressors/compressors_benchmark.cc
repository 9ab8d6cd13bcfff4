// Speed of compressors and kernels, one repetition of one case at a time, so that the caller can
// take what it compares in turn: reads names of cases from standard input, a line each, and answers
// with the values of gradient that one pass handles and the seconds of CPU that it took.

#include <time.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "lgreco/compressor.h"
#include "src/base/random.h"
#include "src/compressors/quantize_grid.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/lloyd_max.h"
#include "src/kernels/low_rank.h"
#include "src/kernels/quantize.h"
#include "src/kernels/rounding_loss.h"
#include "src/kernels/topk.h"

namespace lgreco {
namespace {

constexpr std::size_t kCount = 16'000'000;  // of most cases: larger than the caches
constexpr std::size_t kTopKCount = 10'000'000;
constexpr std::size_t kBlock = 1024;
constexpr MatrixShape kLayer{512, 4608};  // of low_rank
constexpr kernels::Range kRange{-4, 4};   // of a quantised bucket

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
    for (const char* level :
         {"dense", "cast:bf16", "cast:fp16", "quantize:1", "quantize:2", "quantize:3", "quantize:4",
          "quantize:5", "quantize:6", "quantize:7", "quantize:8", "quantize:4:rounding=stochastic",
          "quantize:8:rounding=stochastic", "entropy:0.1", "entropy:0.5", "entropy:1", "entropy:2",
          "entropy:4", "entropy:8"}) {
      add_coded(level, kCount);
    }
    for (const char* level :
         {"topk:0.01", "topk:0.001", "topk:0.1:values=2", "topk:0.01:values=bf16"}) {
      add_coded(level, kTopKCount);
    }
    for (int rank : {1, 2, 3, 4, 6, 8, 16}) {
      const std::string level = "low_rank:" + std::to_string(rank);
      add_linear("step " + level, level);
    }
    for (const char* level :
         {"low_rank:4:factors=bf16", "low_rank:1:factors=8", "low_rank:4:factors=8",
          "low_rank:4:factors=4", "low_rank:16:factors=8"}) {
      add_linear(std::string("step ") + level, level);
    }
  }

  const std::map<std::string, Case>& all() const { return cases_; }

 private:
  // Passes that do nothing but move memory.
  void add_memory() {
    for (std::size_t count : {kCount, kTopKCount, kLayer.count()}) {
      const std::string size = " " + std::to_string(count);
      cases_["memcpy" + size] = {
          count, [=, this] { std::memcpy(out_.data(), gradient_.data(), count * sizeof(float)); }};
      cases_["e = g + e" + size] = {
          count, [=, this] { kernels::add(gradient_.data(), out_.data(), count, out_.data()); }};
      cases_["e = f * e" + size] = {
          count, [=, this] { kernels::scale(out_.data(), -1.0f, count, out_.data()); }};
    }
  }

  void add_kernel(const std::string& name, std::function<void()> pass) {
    cases_["kernel " + name] = {kCount, std::move(pass)};
  }

  void add_kernels() {
    const float* g = gradient_.data();
    auto* halves = reinterpret_cast<std::uint16_t*>(payload_.data());
    add_kernel("add", [=, this] { kernels::add(g, out_.data(), kCount, out_.data()); });
    add_kernel("scale", [=, this] { kernels::scale(g, 0.5f, kCount, out_.data()); });
    add_kernel("all_finite", [=, this] { sink_ = kernels::all_finite(g, kCount); });
    add_kernel("max_magnitude", [=, this] { sink_ = kernels::max_magnitude(g, kCount); });
    add_kernel("sum_squares", [=, this] { sink_ = kernels::sum_squares(g, kCount); });
    add_kernel("range_of", [=, this] { sink_ = kernels::range_of(g, kCount).low; });
    add_kernel("to_bf16", [=] { kernels::to_bf16(g, kCount, halves); });
    add_kernel("from_bf16", [=, this] { kernels::from_bf16(halves, kCount, out_.data()); });
    add_kernel("to_f16", [=] { kernels::to_f16(g, kCount, halves); });
    add_kernel("from_f16", [=, this] { kernels::from_f16(halves, kCount, out_.data()); });
    for (int bits : {1, 2, 3, 4, 8}) {
      const std::string suffix = " " + std::to_string(bits);
      const kernels::Grid grid = QuantizeGrid::enclosing(kRange).grid(bits);
      auto* packed = reinterpret_cast<std::uint8_t*>(payload_.data());
      add_kernel("quantize_pack" + suffix, [=] {
        const RandomStream stream = stream_of({1, 2, 3});
        kernels::quantize_pack(g, kCount, grid, &stream, 0, packed);
      });
      add_kernel("unpack_dequantize_add" + suffix,
                 [=, this] { kernels::unpack_dequantize_add(packed, kCount, grid, out_.data()); });
    }
    add_kernel("rounding_loss", [=, this] {
      const kernels::Grid grid = QuantizeGrid::enclosing(kRange).grid(4);
      for (std::size_t at = 0; at < kCount; at += kBlock) {
        sink_ = kernels::rounding_loss(g + at, kBlock, grid, true);
      }
    });
    for (int bits : {2, 4, 8}) {
      add_kernel("lloyd_max_loss " + std::to_string(bits), [=, this] {
        const kernels::LloydMaxGrid grid{bits, kernels::Law::normal, false, 1.0f};
        for (std::size_t at = 0; at < kCount; at += kBlock) {
          sink_ = kernels::lloyd_max_loss(g + at, kBlock, grid);
        }
      });
    }
    add_kernel("find_threshold", [=, this] {
      kernels::TopKCandidates candidates(kCount);
      sink_ = kernels::find_threshold(g, kCount, kCount / 100, candidates).magnitude;
    });
    add_kernel("select_block", [=, this] {
      kernels::TopKThreshold threshold{std::bit_cast<std::uint32_t>(2.576f), 1};  // about 1 %
      std::uint32_t indices[kBlock];
      for (std::size_t at = 0; at < kCount; at += kBlock) {
        sink_ = static_cast<double>(
            kernels::select_block(g + at, kBlock, ~std::uint64_t{0}, threshold, indices));
      }
    });
    add_products();
  }

  void add_products() {
    constexpr std::size_t kRows = 2000, kCols = kCount / kRows;
    const float* g = gradient_.data();
    const float* left = left_.data();
    const float* right = right_.data();
    float* out = out_.data();
    for (std::size_t rank : {1, 2, 4, 8}) {
      const std::string suffix = " " + std::to_string(rank);
      add_kernel("multiply" + suffix,
                 [=] { kernels::multiply(g, kRows, kCols, right, rank, out); });
      add_kernel("multiply_transposed" + suffix,
                 [=] { kernels::multiply_transposed(g, kRows, kCols, left, rank, out); });
      add_kernel("reconstruct" + suffix,
                 [=] { kernels::reconstruct(left, right, kRows, kCols, rank, out); });
    }
  }

  // One step with error feedback; what was not sent is the residual of the next one.
  void add_coded(const std::string& spelling, std::size_t count) {
    const std::shared_ptr<CodedCompressor> codec = coded_compressor(parse_level(spelling));
    const std::size_t bytes = codec->payload_bytes(count);
    const auto payload = std::make_shared<std::vector<std::byte>>(bytes);
    cases_["encode " + spelling] = {
        count, [=, this] {
          const std::span<float> values(residual_.data(), count);
          const auto gradient = std::span(gradient_).first(count);
          if (!codec->encode_keep_loss(values, gradient, {1, ++step_, 0}, 0, *payload)) {
            throw std::runtime_error(spelling);
          }
        }};
    cases_["decode " + spelling] = {
        count, [=, this] {
          if (!codec->decode_add(*payload, std::span(out_).first(count)).is_ok()) {
            throw std::runtime_error(spelling);
          }
        }};
  }

  // The local work of a step with error feedback, each factor encoded and decoded once, of as many
  // layers as kLayer's values make. What was sent is the gradient of the next step, so that the
  // layer stays what it is.
  void add_linear(const std::string& name, const std::string& spelling) {
    struct Layer {
      LinearState state;
      std::vector<std::vector<float>> rounds;
      std::vector<std::unique_ptr<CodedCompressor>> wire;  // by round
      std::vector<std::vector<std::byte>> payloads;        // by round
      std::vector<float> own, values, residual;
    };
    const Level level = parse_level(spelling);
    const std::shared_ptr<LinearCompressor> codec = linear_compressor(level);
    const auto layer = std::make_shared<Layer>();
    codec->prepare(kLayer, {}, layer->state);
    for (int round = 0; round < codec->rounds(); ++round) {
      layer->rounds.emplace_back(codec->round_floats(kLayer, round));
      layer->wire.push_back(factor_codec(level, kLayer, round));
      layer->payloads.emplace_back(layer->wire.back()->payload_bytes(layer->rounds.back().size()));
    }
    layer->values.assign(gradient_.begin(), gradient_.begin() + kLayer.count());
    layer->residual.assign(kLayer.count(), 0.0f);
    cases_[name] = {
        kLayer.count(), [=] {
          auto& [state, rounds, wire, payloads, own, values, residual] = *layer;
          const std::vector<std::span<float>> means(rounds.begin(), rounds.end());
          bool fits = codec->encode_first_round(values, residual, kLayer, {}, state, rounds[0]);
          for (std::size_t round = 0; round < rounds.size(); ++round) {
            if (round > 0) {
              codec->encode_round(static_cast<int>(round), values, kLayer, {}, state,
                                  std::span(means).first(round), rounds[round]);
            }
            own = rounds[round];
            fits &= wire[round]->encode_keep_loss(rounds[round], {}, {}, 0, payloads[round]);
            kernels::subtract(own.data(), rounds[round].data(), own.size(), own.data());
            std::fill(rounds[round].begin(), rounds[round].end(), 0.0f);
            fits &= wire[round]->decode_add(payloads[round], rounds[round]).is_ok();
          }
          if (!fits) throw std::runtime_error(spelling);
          const std::span<const float> sent = level.factor_bits == 0 ? rounds.back() : own;
          codec->decode_keep_loss(kLayer, {}, means, sent, values, residual);
          codec->commit(kLayer, {}, means, state);
        }};
  }

  std::vector<float> gradient_ = gaussian(kCount, 1);
  std::vector<float> residual_ = std::vector<float>(kCount, 0.0f);
  std::vector<float> out_ = std::vector<float>(kCount, 0.0f);
  std::vector<std::byte> payload_ = std::vector<std::byte>(4 * kCount);
  std::vector<float> left_ = std::vector<float>(8 * 2000, 0.5f);
  std::vector<float> right_ = std::vector<float>(8 * 8000, 0.5f);
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
    const double seconds = lgreco::thread_seconds() - begin;
    std::cout << found->second.count << ' ' << seconds << std::endl;
  }
}
