// Golden runs: what whole training runs send, average and keep, bit for bit.
//
// runs.txt has a line for each run: its name, and then
//   results  a hash of what rank 0 got back in every step (all ranks get the same)
//   sent     how many messages all ranks sent in the rounds of the steps, and a hash of their
//   bodies
//            (presence bytes and payloads, without frames)
//   kept     a hash of every rank's residuals and low-rank factors after the last step
//   plan     Plan::hash() after the last step, and how many plans were made
// They are the same on every machine and change only together with the wire version of a method and
// docs/wire_format.md. LGRECO_WRITE_GOLDEN=1 golden_test --gtest_filter='*GoldenRun*' records anew.

#include <gtest/gtest.h>

#include <xxhash.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <latch>
#include <map>
#include <sstream>

#include "lgreco/aggregator.h"
#include "src/base/random.h"
#include "tests/frame_of.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

constexpr const char* kFile = LGRECO_GOLDEN "/runs.txt";
constexpr std::uint64_t kSteps = 30;

const std::vector<LayerSpec> kModel = {{.name = "conv", .shape = {16, 8, 3, 3}},
                                       {.name = "bias", .shape = {16}},
                                       {.name = "embedding", .shape = {4100}},
                                       {.name = "hidden", .shape = {40, 64}},
                                       {.name = "norm", .shape = {40}},
                                       {.name = "head", .shape = {24, 50}},
                                       {.name = "scale", .shape = {}}};

/// What the gradients have besides numbers.
enum class Gaps {
  none,
  some,  // now and then a layer without a gradient, on one rank or on all, and a value not finite
};

struct Run {
  std::string name;
  AggregatorOptions options;
  int ranks = 2;
  std::size_t bucket_length = kModel.size();  // layers
  DType dtype = DType::f32;
  Gaps gaps = Gaps::none;
  int lanes = 2;
};

std::uint64_t hash(const void* data, std::size_t bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

std::uint64_t hash(const std::vector<float>& values, std::uint64_t seed) {
  return hash(values.data(), values.size() * sizeof(float), seed);
}

/// Counts and hashes the bodies of the rounds' messages, by phase: each phase is on one lane.
struct Sent {
  std::array<std::uint64_t, 8> hashes{};
  std::array<std::uint64_t, 8> counts{};
};

class BodyRecorder final : public Communicator {
 public:
  BodyRecorder(std::unique_ptr<Communicator> inner, Sent& sent)
      : inner_(std::move(inner)), sent_(sent) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  void abort() override { inner_->abort(); }
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    for (const auto& message : send) record(message);
    inner_->all_to_all(send, receive, deadline);
  }
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    record(send);
    inner_->all_gather(send, receive, deadline);
  }

 private:
  void record(std::span<const std::byte> message) {
    const auto frame = frame_of(message);
    if (!frame || frame->phase > Phase::gather_b) return;
    const auto phase = static_cast<std::size_t>(frame->phase);
    const auto body = message.subspan(kHeaderBytes, message.size() - kFrameBytes);
    sent_.hashes[phase] = hash(body.data(), body.size(), sent_.hashes[phase]);
    ++sent_.counts[phase];
  }

  std::unique_ptr<Communicator> inner_;
  Sent& sent_;
};

/// m * 2^-e with a sign and a spread of magnitudes: exact in fp32.
float number(std::uint64_t index) {
  const std::uint64_t bits = mix64(index);
  const auto mantissa = static_cast<std::int32_t>(bits & 0xFFFFu) - (1 << 15);
  const auto exponent = static_cast<std::uint32_t>((bits >> 32) % 8);
  return static_cast<float>(mantissa) / static_cast<float>(1u << (16 + exponent));
}

/// A part that stays over the steps, low-rank on matrices, and one that does not. Each changes its
/// share once, so that critical regimes end and come back.
std::vector<float> gradient(std::size_t layer, int rank, std::uint64_t step) {
  const auto [rows, cols] = kModel[layer].matrix();
  const std::uint64_t lasting = mix64(layer);
  const std::uint64_t passing =
      mix64(mix64(mix64(step) ^ static_cast<std::uint64_t>(rank)) ^ layer);
  const float lasting_share = step < 2 * kSteps / 3 ? 1.0f : 4.0f;
  const float passing_share = step < kSteps / 3 ? 1.0f : 0.125f;
  std::vector<float> values(rows * cols);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto row = static_cast<float>((lasting >> (i / cols % 32)) % 8);
    const auto col = static_cast<float>((lasting >> (i % cols % 24)) % 16);
    values[i] = lasting_share * row * col / 128.0f + passing_share * number(passing + i);
  }
  return values;
}

/// One layer's gradient in memory, in its dtype; bf16 by cutting off.
std::vector<std::byte> stored(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    if (dtype == DType::f32) {
      std::memcpy(bytes.data() + 4 * i, &bits, 4);
    } else {
      const auto upper = static_cast<std::uint16_t>(bits >> 16);
      std::memcpy(bytes.data() + 2 * i, &upper, 2);
    }
  }
  return bytes;
}

bool is_present(const Run& run, std::size_t layer, int rank, std::uint64_t step) {
  if (run.gaps == Gaps::none) return true;
  if (step % 7 == 3 && layer == 5) return rank != 1;
  return !(step % 11 == 5 && layer == 3);
}

/// A rank's part of what is recorded.
struct Part {
  std::uint64_t results = 0;
  std::uint64_t kept = 0;
  std::uint64_t plan = 0;
  std::uint64_t plans = 0;
  Sent sent;
};

void train_one_step(const Run& run, Aggregator& aggregator, std::uint64_t step, Part& part) {
  std::vector<std::vector<std::byte>> values;
  for (std::size_t i = 0; i < kModel.size(); ++i) {
    auto numbers = gradient(i, aggregator.rank(), step);
    if (run.gaps == Gaps::some && step == 17 && i == 0 && aggregator.rank() == 0) {
      numbers[3] = std::bit_cast<float>(0x7F800000u);  // infinity
    }
    values.push_back(stored(numbers, run.dtype));
  }
  const std::size_t buckets = (kModel.size() + run.bucket_length - 1) / run.bucket_length;
  std::latch done(static_cast<std::ptrdiff_t>(buckets));
  for (std::size_t first = 0; first < kModel.size(); first += run.bucket_length) {
    const std::size_t end = std::min(first + run.bucket_length, kModel.size());
    Bucket bucket{.gradients = {}, .last = end == kModel.size()};
    for (std::size_t i = first; i < end; ++i) {
      bucket.gradients.push_back({.layer = i,
                                  .data = values[i].data(),
                                  .present = is_present(run, i, aggregator.rank(), step)});
    }
    aggregator.submit(bucket, [&done](const std::exception_ptr& failure) {
      EXPECT_FALSE(failure);
      done.count_down();
    });
  }
  done.wait();
  for (const auto& averages : values) {
    part.results = hash(averages.data(), averages.size(), part.results);
  }
}

Part train(const Run& run, Communicators lanes) {
  Part part;
  for (auto& lane : lanes) lane = std::make_unique<BodyRecorder>(std::move(lane), part.sent);
  std::vector<LayerSpec> model = kModel;
  for (LayerSpec& layer : model) layer.dtype = run.dtype;
  Aggregator aggregator(model, run.options, std::move(lanes));
  for (std::uint64_t step = 0; step < kSteps; ++step) train_one_step(run, aggregator, step, part);
  const AggregatorState state = aggregator.state();
  for (const LayerState& layer : state.layers) {
    part.kept = hash(layer.residual, part.kept);
    part.kept = hash(layer.factor, part.kept);
  }
  part.plan = state.plan.hash();
  part.plans = state.stats.plans;
  return part;
}

/// The run's line in runs.txt, without its name.
std::string record(const Run& run) {
  std::vector<Part> parts(static_cast<std::size_t>(run.ranks));
  run_ranks_on_lanes(run.ranks, run.lanes, [&](Communicators lanes) {
    const auto rank = static_cast<std::size_t>(lanes[0]->rank());
    parts[rank] = train(run, std::move(lanes));
  });
  std::uint64_t sent = 0, messages = 0, kept = 0;
  for (const Part& part : parts) {
    EXPECT_EQ(part.results, parts[0].results) << "the ranks' averages differ";
    EXPECT_EQ(part.plan, parts[0].plan) << "the ranks' plans differ";
    sent = hash(part.sent.hashes.data(), sizeof part.sent.hashes, sent);
    for (std::uint64_t count : part.sent.counts) messages += count;
    kept = hash(&part.kept, sizeof part.kept, kept);
  }
  std::ostringstream line;
  line << std::hex << "results " << parts[0].results << " sent " << std::dec << messages << " "
       << std::hex << sent << " kept " << kept << " plan " << parts[0].plan << " " << std::dec
       << parts[0].plans;
  return line.str();
}

// -- The runs.

std::vector<Run> runs_of_methods() {
  std::vector<Run> runs;
  for (const char* method :
       {"dense", "cast:bf16", "cast:fp16", "quantize:4", "quantize:2:rounding=stochastic",
        "topk:0.01", "topk:0.05:values=fp32", "low_rank:2", "low_rank:4:factors=bf16"}) {
    for (int ranks : {2, 3}) {
      for (std::size_t bucket_length : {kModel.size(), std::size_t{2}}) {
        for (DType dtype : {DType::f32, DType::bf16}) {
          for (bool feedback : {true, false}) {
            if (!feedback && method == std::string("dense")) continue;
            Run run{.options = {.method = parse_level(method), .error_feedback = feedback},
                    .ranks = ranks,
                    .bucket_length = bucket_length,
                    .dtype = dtype};
            run.name = std::string(method) + "/ranks=" + std::to_string(ranks) +
                       (bucket_length == 2 ? "/buckets=4/" : "/buckets=1/") +
                       std::string(name_of(dtype)) + (feedback ? "" : "/no_feedback");
            runs.push_back(std::move(run));
          }
        }
      }
    }
  }
  return runs;
}

/// What is set seldom, each once.
std::vector<Run> runs_of_settings() {
  std::vector<Run> runs;
  for (const char* method : {"quantize:4", "topk:0.05", "low_rank:2"}) {
    const AggregatorOptions options{.method = parse_level(method), .seed = 7};
    Run gaps{.name = std::string(method) + "/gaps",
             .options = options,
             .ranks = 3,
             .bucket_length = 3,
             .gaps = Gaps::some};
    Run narrow{.name = std::string(method) + "/residual=bf16", .options = options};
    narrow.options.residual = DType::bf16;
    Run late{.name = std::string(method) + "/start=10", .options = options};
    late.options.start = 10;
    Run one_lane{.name = std::string(method) + "/lanes=1",
                 .options = options,
                 .bucket_length = 2,
                 .lanes = 1};
    for (Run* run : {&gaps, &narrow, &late, &one_lane}) runs.push_back(std::move(*run));
  }
  return runs;
}

std::vector<Run> runs_of_policies() {
  std::vector<Run> runs;
  const auto add = [&](std::string name, const char* method, const Policy& policy) {
    for (int ranks : {2, 3}) {
      runs.push_back({.name = std::string(name) + "/ranks=" + std::to_string(ranks),
                      .options = {.method = parse_level(method), .policy = policy},
                      .ranks = ranks,
                      .bucket_length = 3});
    }
  };
  LGrecoPolicy lgreco{.every = 8, .start = 6, .window = 4};
  for (const char* method : {"quantize:4", "topk:0.05", "low_rank:4"}) {
    lgreco.candidates = {};
    lgreco.budget = Budget::norm;
    add(std::string(method) + "/lgreco/same", method, lgreco);
    lgreco.candidates = mixed_levels(parse_level(method));
    add(std::string(method) + "/lgreco/mixed", method, lgreco);
    lgreco.budget = Budget::squared;
    add(std::string(method) + "/lgreco/mixed/squared", method, lgreco);
    lgreco.budget = Budget::debt;
    add(std::string(method) + "/lgreco/mixed/debt", method, lgreco);
  }
  lgreco = {.every = 24, .start = 24, .window = 6, .reference_layers_only = true};  // in advance
  add("low_rank:4/lgreco/every=24", "low_rank:4", lgreco);
  const std::pair<const char*, const char*> pairs[] = {
      {"quantize:8", "quantize:2"}, {"topk:0.1", "topk:0.01"}, {"low_rank:4", "low_rank:1"}};
  for (const auto& [low, high] : pairs) {
    AccordionPolicy accordion{.low = parse_level(low), .high = parse_level(high), .every = 4};
    add(std::string(low) + "/accordion", low, accordion);
    accordion.then = LGrecoPolicy{.every = 8, .start = 8, .window = 4};
    add(std::string(low) + "/accordion/then=lgreco", low, accordion);
  }
  return runs;
}

// -- The recorded lines.

using Lines = std::map<std::string, std::string>;

Lines read_lines() {
  std::ifstream file(kFile);
  EXPECT_TRUE(file) << kFile << " is missing";
  Lines lines;
  for (std::string name, line; file >> name && std::getline(file >> std::ws, line);) {
    lines[name] = line;
  }
  return lines;
}

void check(const std::vector<Run>& runs) {
  Lines lines = read_lines();
  for (const Run& run : runs) {
    const std::string line = record(run);
    if (std::getenv("LGRECO_WRITE_GOLDEN") != nullptr) lines[run.name] = line;
    EXPECT_EQ(line, lines[run.name]) << run.name;
  }
  if (std::getenv("LGRECO_WRITE_GOLDEN") == nullptr) return;
  std::ofstream file(kFile);
  for (const auto& [name, line] : lines) file << name << " " << line << "\n";
  ASSERT_TRUE(file.good()) << kFile;
}

TEST(GoldenRun, OfEveryMethod) { check(runs_of_methods()); }
TEST(GoldenRun, OfEverySetting) { check(runs_of_settings()); }
TEST(GoldenRun, OfEveryPolicy) { check(runs_of_policies()); }

TEST(GoldenRun, EveryLineBelongsToOne) {
  Lines lines = read_lines();
  for (const auto& runs : {runs_of_methods(), runs_of_settings(), runs_of_policies()}) {
    for (const auto& run : runs) lines.erase(run.name);
  }
  for (const auto& [name, line] : lines) ADD_FAILURE() << "no such run: " << name;
}

}  // namespace
}  // namespace lgreco
