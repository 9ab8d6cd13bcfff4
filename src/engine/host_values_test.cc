// Layers of any rounds in one bucket: coded ones, linear ones of one round and of two.

#include "src/engine/host_values.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "src/base/random.h"
#include "src/engine/exchange.h"
#include "src/kernels/cast.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

/// A linear method of one round: the sum of the first half of the elements. Its bound may be loose.
class FirstHalf final : public LinearCompressor {
 public:
  explicit FirstHalf(double looseness) : looseness_(looseness) {}

  int rounds() const override { return 1; }
  std::size_t round_floats(const MatrixShape& shape, int) const override {
    return shape.count() / 2;
  }
  std::size_t state_floats(const MatrixShape&) const override { return 0; }
  void prepare(const MatrixShape&, const RandomKey&, LinearState&) const override {}
  void encode_round(int, std::span<const float> values, const MatrixShape&, const RandomKey&,
                    const LinearState&, std::span<const std::span<float>>,
                    std::span<float> addend) const override {
    std::copy_n(values.begin(), addend.size(), addend.begin());
  }
  bool encode_first_round(std::span<float> values, std::span<const float> residual,
                          const MatrixShape& shape, const RandomKey& key, const LinearState& state,
                          std::span<float> addend) const override {
    for (std::size_t i = 0; i < residual.size(); ++i) values[i] += residual[i];
    encode_round(0, values, shape, key, state, {}, addend);
    return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
  }
  double result_bound(std::span<const std::span<float>> means) const override {
    EXPECT_EQ(means.size(), 1u);
    float largest = 0;
    for (const float mean : means[0]) largest = std::max(largest, std::abs(mean));
    return looseness_ * largest;
  }
  void decode(const MatrixShape&, const RandomKey&, std::span<const std::span<float>> means,
              std::span<float> values) const override {
    const auto rest = std::copy(means[0].begin(), means[0].end(), values.begin());
    std::fill(rest, values.end(), 0.0f);
  }
  void decode_keep_loss(const MatrixShape&, const RandomKey&,
                        std::span<const std::span<float>> means, std::span<const float> own,
                        std::span<float> values, std::span<float> residual) const override {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float average = i < means[0].size() ? means[0][i] : 0.0f;
      const float loss = values[i] - (i < own.size() ? own[i] : 0.0f);
      values[i] = average;
      residual[i] = loss;
    }
  }
  void commit(const MatrixShape&, const RandomKey&, std::span<const std::span<float>>,
              LinearState&) const override {}

 private:
  double looseness_;
};

constexpr int kRanks = 3;
constexpr std::uint64_t kSteps = 4;

struct Model {
  std::vector<LayerSpec> specs;
  std::vector<std::string> levels;  // "" for FirstHalf
  double looseness = 1;             // of FirstHalf
};

const Model kMixed = {{{.name = "half", .shape = {70, 96}},
                       {.name = "coded", .shape = {5000}},
                       {.name = "low", .shape = {48, 64}},
                       {.name = "half16", .shape = {4100}, .dtype = DType::bf16},
                       {.name = "coded16", .shape = {60, 90}, .dtype = DType::f16}},
                      {"", "quantize:4", "low_rank:2:min_ratio=1", "", "topk:0.1"}};

std::vector<float> gradient(int rank, std::uint64_t step, std::size_t layer, std::size_t count) {
  const RandomStream stream = stream_of({static_cast<std::uint64_t>(rank), step, layer});
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = uniform(stream, static_cast<std::uint32_t>(i)) - 0.5f;
  }
  return values;
}

/// One rank, without an aggregator around its exchanges.
class Rank {
 public:
  Rank(const Model& model, std::unique_ptr<Communicator> communicator)
      : place_{communicator->rank(), communicator->size()},
        model_(model),
        communicator_(std::move(communicator)) {
    std::vector<std::size_t> load(static_cast<std::size_t>(place_.ranks), 0);
    for (std::size_t i = 0; i < model.specs.size(); ++i) {
      LayerRecord& record = records.emplace_back(model.specs[i]);
      if (!model.levels[i].empty()) {
        record.use(parse_level(model.levels[i]), {}, load);
        continue;
      }
      record.level.method = Method::low_rank;  // any that is not dense
      record.linear = std::make_unique<FirstHalf>(model.looseness);
      record.factor_codecs[0] = coded_compressor({});
      record.owners[0] =
          choose_owners(record.linear->round_floats(record.shape, 0), record.codecs(0), load);
    }
  }

  /// One step of buckets of these layers. `values` become the averages; 16-bit ones are rounded.
  void average(const std::vector<std::vector<std::size_t>>& buckets,
               std::vector<std::vector<float>>& values, std::uint64_t step) {
    std::vector<std::vector<std::uint16_t>> halves(values.size());
    std::vector<std::unique_ptr<Exchange>> exchanges;
    for (const std::vector<std::size_t>& layers : buckets) {
      std::vector<Gradient> gradients;
      for (const std::size_t layer : layers) {
        void* data = values[layer].data();
        if (model_.specs[layer].dtype != DType::f32) {
          halves[layer] = rounded(values[layer], model_.specs[layer].dtype);
          data = halves[layer].data();
        }
        gradients.push_back({.layer = layer, .data = data});
      }
      exchanges.push_back(
          std::make_unique<Exchange>(gradients, model_.specs, values_, place_, trace_));
      Exchange& exchange = *exchanges.back();
      Bucket bucket{.gradients = gradients};
      exchange.start(bucket, nullptr, {.step = step, .sequence = ++sequence_, .deadline = soon()});
      exchange.take_in();
      exchange.round_a(communicator_);
      exchange.expect_round_b(communicator_);
      exchange.round_b(communicator_);
      if (exchange.failure()) std::rethrow_exception(exchange.failure()->exception());
      overflowed |= exchange.overflowed();
    }
    for (const auto& exchange : exchanges) exchange->finish(/*commit=*/!overflowed);
    for (std::size_t layer = 0; layer < values.size(); ++layer) {
      float* data = values[layer].data();
      if (model_.specs[layer].dtype == DType::bf16) {
        kernels::from_bf16(halves[layer].data(), halves[layer].size(), data);
      } else if (model_.specs[layer].dtype == DType::f16) {
        kernels::from_f16(halves[layer].data(), halves[layer].size(), data);
      }
    }
  }

  std::uint64_t collectives() const {
    return communicator_.traffic().messages_sent / static_cast<std::uint64_t>(place_.ranks - 1);
  }

  std::vector<LayerRecord> records;
  bool overflowed = false;

 private:
  static std::vector<std::uint16_t> rounded(const std::vector<float>& values, DType dtype) {
    std::vector<std::uint16_t> halves(values.size());
    (dtype == DType::bf16 ? kernels::to_bf16 : kernels::to_f16)(values.data(), values.size(),
                                                                halves.data());
    return halves;
  }

  Place place_;
  const Model& model_;
  CountingCommunicator communicator_;
  WorkerPool pool_{2};
  Trace trace_;
  HostValues values_{records, {.place = place_, .seed = 3}, pool_};
  std::uint32_t sequence_ = 0;
};

using Buckets = std::vector<std::vector<std::size_t>>;

/// Averages and residuals of all layers and steps, of each rank.
std::vector<std::vector<float>> train(const Buckets& buckets) {
  std::vector<std::vector<float>> outcome(kRanks);
  run_ranks(kRanks, [&](std::unique_ptr<Communicator> communicator) {
    const int id = communicator->rank();
    std::vector<float>& seen = outcome[static_cast<std::size_t>(id)];
    Rank rank(kMixed, std::move(communicator));
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      std::vector<std::vector<float>> values;
      for (std::size_t i = 0; i < kMixed.specs.size(); ++i) {
        values.push_back(gradient(id, step, i, kMixed.specs[i].count()));
      }
      rank.average(buckets, values, step);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::vector<float> residual = rank.records[i].residual.to_floats();
        seen.insert(seen.end(), values[i].begin(), values[i].end());
        seen.insert(seen.end(), residual.begin(), residual.end());
      }
    }
    EXPECT_FALSE(rank.overflowed);
  });
  return outcome;
}

TEST(HostValues, LayersOfAnyRoundsInOneBucketGiveTheBitsThatEachGivesAlone) {
  const auto alone = train({{0}, {1}, {2}, {3}, {4}});
  EXPECT_EQ(train({{0, 1, 2, 3, 4}}), alone);
  EXPECT_EQ(train({{2, 0}, {4, 3, 1}}), alone);
}

TEST(HostValues, ALinearMethodOfOneRoundIsAPlainSumWithErrorFeedback) {
  run_ranks(kRanks, [&](std::unique_ptr<Communicator> communicator) {
    const int id = communicator->rank();
    const Model model = {{{.name = "half", .shape = {5000}}}, {""}};
    Rank rank(model, std::move(communicator));
    std::vector<float> owed(5000, 0.0f);  // by all ranks
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      std::vector<std::vector<float>> values = {gradient(id, step, 0, 5000)};
      for (int peer = 0; peer < kRanks; ++peer) {
        const std::vector<float> part = gradient(peer, step, 0, 5000);
        for (std::size_t i = 0; i < owed.size(); ++i) owed[i] += part[i] / kRanks;
      }
      rank.average({{0}}, values, step);
      for (std::size_t i = 0; i < owed.size(); ++i) {
        ASSERT_NEAR(values[0][i], i < 2500 ? owed[i] : 0.0f, 1e-5f) << "element " << i;
        owed[i] -= values[0][i];
      }
    }
  });
}

TEST(HostValues, OnlyTwoRoundsNeedFourCollectives) {
  const auto collectives = [](const std::vector<std::size_t>& layers) {
    std::uint64_t made = 0;
    run_ranks(kRanks, [&](std::unique_ptr<Communicator> communicator) {
      const int id = communicator->rank();
      Rank rank(kMixed, std::move(communicator));
      std::vector<std::vector<float>> values;
      for (const LayerSpec& layer : kMixed.specs) values.emplace_back(layer.count());
      rank.average({layers}, values, 0);
      if (id == 0) made = rank.collectives();
    });
    return made;
  };
  EXPECT_EQ(collectives({0, 1, 3, 4}), 2u);
  EXPECT_EQ(collectives({0}), 2u);
  EXPECT_EQ(collectives({2}), 4u);
  EXPECT_EQ(collectives({0, 1, 2, 3, 4}), 4u);
}

// Of one round, too: a value from which the loss may not fit, a sum, or an average that may be too
// large as far as the method knows.
TEST(HostValues, WhatOverflowsIsNaNOnEveryRankAndLeavesNoTrace) {
  constexpr float kMax = std::numeric_limits<float>::max();
  struct Case {
    float value;
    int ranks;  // that have it
    double looseness;
    bool overflows;
  };
  for (const Case& c : {Case{0.9f * kMax, 1, 1, true}, Case{0.4f * kMax, kRanks, 1, true},
                        Case{0.2f * kMax, kRanks, 1, false}, Case{0.2f * kMax, kRanks, 3, true}}) {
    Model model = kMixed;
    model.looseness = c.looseness;
    run_ranks(kRanks, [&](std::unique_ptr<Communicator> communicator) {
      const int id = communicator->rank();
      Rank rank(model, std::move(communicator));
      std::vector<std::vector<float>> values;
      for (const LayerSpec& layer : model.specs) values.emplace_back(layer.count());
      if (id < c.ranks) values[0][7] = c.value;
      rank.average({{0, 1, 2, 3, 4}}, values, 0);
      EXPECT_EQ(rank.overflowed, c.overflows) << c.value << " on " << c.ranks;
      EXPECT_EQ(std::isnan(values[0][0]), c.overflows);
      EXPECT_EQ(rank.records[0].residual.to_floats().empty(), c.overflows);
    });
  }
}

}  // namespace
}  // namespace lgreco
