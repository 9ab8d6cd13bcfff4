#include "src/engine/cost_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lgreco/method.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

constexpr float kNotMeasured = std::numeric_limits<float>::quiet_NaN();

double cost_to_measure(const MatrixShape& shape, const Candidates& candidates) {
  if (candidates.size() < 2) return 0;
  double for_each_element = 32;  // what a few passes take
  for (const MethodRow& row : method_table()) {
    const bool is_among =
        std::any_of(candidates.begin(), candidates.end(),
                    [&](const Level& level) { return level.method == row.method; });
    if (is_among) for_each_element += entry_of(row.method).cost_to_measure(shape);
  }
  return static_cast<double>(shape.count()) * for_each_element;
}

}  // namespace

Candidates candidates_of(const LGrecoPolicy& policy, std::span<const Level> references,
                         const LayerSpec& layer) {
  Candidates candidates;
  const Level dense = resolve(Level{}, layer);
  const auto add = [&](const Level& level) {
    const Level resolved = resolve(level, layer);
    if (resolved == dense) return;
    if (std::find(candidates.begin(), candidates.end(), resolved) == candidates.end()) {
      candidates.push_back(resolved);
    }
  };
  for (const Level& reference : references) add(reference);
  if (!candidates.empty() || !policy.reference_layers_only) {
    for (const Level& reference : references) {
      for (const Level& level :
           policy.candidates.empty() ? neighbours(reference) : policy.candidates) {
        add(level);
      }
    }
  }
  candidates.push_back(dense);
  return candidates;
}

std::vector<int> measuring_ranks(const Membership& membership,
                                 std::span<const Candidates> candidates, std::uint64_t number) {
  const std::vector<ModelLayer>& layers = membership.layers;
  std::vector<double> costs;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    costs.push_back(cost_to_measure(layers[i].shape, candidates[i]));
  }
  std::vector<std::size_t> order(layers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return costs[a] > costs[b]; });
  std::vector<double> load(static_cast<std::size_t>(membership.place.ranks), 0);
  std::vector<int> owners(layers.size());
  for (const std::size_t layer : order) {
    const std::vector<int>& holders = layers[layer].holders;
    const auto load_of = [&](int rank) -> double& { return load[static_cast<std::size_t>(rank)]; };
    const auto least = std::ranges::min_element(holders, {}, load_of);
    load_of(*least) += costs[layer];
    const auto holder = static_cast<std::uint64_t>(least - holders.begin());
    owners[layer] = holders[(holder + number) % holders.size()];
  }
  return owners;
}

CostRow measure_row(const Window& window, const MatrixShape& shape, const Candidates& candidates,
                    int ranks) {
  CostRow row{kNotMeasured, std::vector<float>(candidates.size(), kNotMeasured)};
  if (window.steps == 0) return row;
  std::vector<float> mean(window.sum.size());
  kernels::scale(window.sum.data(), 1.0f / static_cast<float>(window.steps), mean.size(),
                 mean.data());
  const auto errors = analyze(mean, shape, candidates, ranks);
  row.norm = static_cast<float>(std::sqrt(kernels::sum_squares(mean.data(), mean.size())));
  std::transform(errors.begin(), errors.end(), row.errors.begin(),
                 [](double error) { return static_cast<float>(error); });
  return row;
}

}  // namespace lgreco
