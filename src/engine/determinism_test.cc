// Every rank ends every step with the same bits, and a run repeated repeats every bit and every
// byte on the wire.

#include <gtest/gtest.h>

#include <atomic>
#include <latch>

#include "lgreco/aggregator.h"
#include "src/base/random.h"
#include "tests/ranks_as_threads.h"
#include "tests/recording_communicator.h"

namespace lgreco {
namespace {

const std::vector<LayerSpec> kModel = {{.name = "a", .shape = {32, 96}},
                                       {.name = "b", .shape = {4200}},
                                       {.name = "c", .shape = {24, 50}},
                                       {.name = "d", .shape = {7}}};
constexpr std::uint64_t kSteps = 200;

struct Case {
  const char* method;
  int ranks;
  std::size_t bucket_length;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.method << " on " << c.ranks << ", " << c.bucket_length << " layers a bucket";
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const char* method :
       {"dense", "cast:bf16", "cast:fp16", "quantize:4", "topk:0.02", "low_rank:2:min_ratio=1",
        "low_rank:2:min_ratio=1:factors=bf16", "low_rank:2:min_ratio=1:factors=4"}) {
    for (int ranks : {2, 3, 4, 8}) {
      for (std::size_t length : {kModel.size(), std::size_t{1}}) {
        cases.push_back({method, ranks, length});
      }
    }
  }
  return cases;
}

struct Outcome {
  std::vector<std::vector<float>> parameters;  // of each rank, all layers one after the other
  std::vector<std::uint64_t> sent;             // hash of the bytes of each rank's lanes

  bool operator==(const Outcome&) const = default;
};

std::vector<float> gradient(int rank, std::uint64_t step, const std::vector<float>& parameters) {
  const RandomStream stream = stream_of({static_cast<std::uint64_t>(rank), step, 0});
  std::vector<float> values(parameters.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.1f * parameters[i] + uniform(stream, static_cast<std::uint32_t>(i)) - 0.5f;
  }
  return values;
}

Outcome train(const Case& c) {
  const auto ranks = static_cast<std::size_t>(c.ranks);
  Outcome run{std::vector<std::vector<float>>(ranks), std::vector<std::uint64_t>(2 * ranks, 1)};
  run_ranks_on_lanes(c.ranks, 2, [&](Communicators lanes) {
    const int rank = lanes[0]->rank();
    for (std::size_t lane : {0u, 1u}) {
      auto& hash = run.sent[2 * static_cast<std::size_t>(rank) + lane];
      lanes[lane] = std::make_unique<RecordingCommunicator>(std::move(lanes[lane]), hash);
    }
    AggregatorOptions options{.method = parse_level(c.method)};
    options.policy = LGrecoPolicy{.every = 50, .start = 50, .window = 5};
    Aggregator aggregator(kModel, options, std::move(lanes));
    std::size_t total = 0;
    for (const LayerSpec& layer : kModel) total += layer.count();
    std::vector<float>& parameters = run.parameters[static_cast<std::size_t>(rank)];
    parameters.assign(total, 1.0f);
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      std::vector<float> values = gradient(rank, step, parameters);
      std::latch done(static_cast<std::ptrdiff_t>((kModel.size() - 1) / c.bucket_length + 1));
      std::size_t at = 0;
      for (std::size_t first = 0; first < kModel.size(); first += c.bucket_length) {
        Bucket bucket{.gradients = {}, .last = first + c.bucket_length >= kModel.size()};
        for (std::size_t i = first; i < std::min(first + c.bucket_length, kModel.size()); ++i) {
          bucket.gradients.push_back({.layer = i, .data = values.data() + at});
          at += kModel[i].count();
        }
        aggregator.submit(bucket, [&](const std::exception_ptr& failure) {
          EXPECT_FALSE(failure);
          done.count_down();
        });
      }
      done.wait();
      for (std::size_t i = 0; i < total; ++i) parameters[i] -= 0.1f * values[i];
    }
  });
  return run;
}

class DeterminismTest : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Cases, DeterminismTest, testing::ValuesIn(cases()));

TEST_P(DeterminismTest, RanksAgreeAndRunsRepeat) {
  const Outcome run = train(GetParam());
  for (const auto& parameters : run.parameters) ASSERT_EQ(parameters, run.parameters[0]);
  EXPECT_EQ(train(GetParam()), run);
}

}  // namespace
}  // namespace lgreco
