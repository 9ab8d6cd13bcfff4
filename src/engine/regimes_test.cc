#include "src/engine/regimes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace lgreco {
namespace {

TEST(Regimes, ComparesWithTheNormBefore) {
  EXPECT_TRUE(is_critical_change(1.0, 1.5, 0.5));
  EXPECT_TRUE(is_critical_change(1.0, 0.5, 0.5));
  EXPECT_FALSE(is_critical_change(1.0, 1.49, 0.5));
  EXPECT_FALSE(is_critical_change(2.0, 2.0, 0.5));
  EXPECT_TRUE(is_critical_change(0.0, 0.0, 0.5));
  EXPECT_TRUE(is_critical_change(1e-30, 3e-30, 0.5));
  EXPECT_TRUE(is_critical_change(1.0, std::numeric_limits<double>::infinity(), 0.5));
}

TEST(Regimes, IntervalsCountFromTheStart) {
  const Regimes regimes({.every = 10}, 5);
  for (std::uint64_t step = 0; step < 40; ++step) {
    EXPECT_EQ(regimes.due(step), step == 15 || step == 25 || step == 35) << step;
  }
}

// The rule as the paper states it, over a sequence of norms.
std::vector<bool> plain_decisions(const std::vector<double>& norms, double threshold) {
  std::vector<bool> critical;
  for (std::size_t i = 0; i < norms.size(); ++i) {
    const bool first = i == 0;
    critical.push_back(first || norms[i - 1] == 0 ||
                       std::abs(norms[i - 1] - norms[i]) / norms[i - 1] >= threshold);
  }
  return critical;
}

TEST(Regimes, DecidesAsThePlainRuleOnRecordedNorms) {
  // Of one layer of a ResNet over training, with a learning-rate step; a layer that is zero for a
  // while; a random one. Norms are of gradients times the scale.
  const std::vector<double> norms[] = {
      {9.1, 6.2, 3.0, 2.8, 2.7, 2.6, 1.2, 1.1, 1.1, 0.4},
      {0, 0, 3, 3, 0, 0, 0, 1, 1, 1},
      {1, 4, 2, 2, 3, 4.5, 4.4, 9, 13, 6.4},
  };
  std::vector<LayerRecord> layers;
  for (const char* name : {"a", "b", "c"}) {
    layers.emplace_back(LayerSpec{.name = name, .shape = {4}});
    layers.back().interval_sum.resize(4);
  }
  Regimes regimes({.every = 1, .threshold = 0.5}, 0);
  std::vector<double> model;
  for (std::size_t interval = 0; interval < 10; ++interval) {
    double squares = 0;
    const double scale = interval < 5 ? 1 : 64;
    for (std::size_t i = 0; i < 3; ++i) {
      layers[i].interval_sum[2] = static_cast<float>(norms[i][interval] * scale);
      squares += norms[i][interval] * norms[i][interval];
    }
    model.push_back(std::sqrt(squares));
    regimes.decide(layers, scale);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(layers[i].critical, plain_decisions(norms[i], 0.5)[interval])
          << layers[i].spec.name << ", interval " << interval;
      EXPECT_EQ(layers[i].interval_sum[2], 0);
    }
    EXPECT_EQ(regimes.critical, plain_decisions(model, 0.5)[interval]) << interval;
  }
  regimes.set_critical(layers);
  for (const LayerRecord& layer : layers) EXPECT_TRUE(layer.critical);
  EXPECT_TRUE(regimes.critical);
}

}  // namespace
}  // namespace lgreco
