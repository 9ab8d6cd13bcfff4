// Random k: of each layer and step, k values that all ranks choose alike (Stich et al., "Sparsified
// SGD with Memory", 2018). As the ranks send the same positions they need not send them at all, and
// can simply add the values: a linear method of one round.

#include "random_k.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "lgreco/method.h"

namespace {

using namespace lgreco;

constexpr Method kRandomK{128};  // 128 to 255 are free; the same number on every rank

std::uint64_t mix(std::uint64_t x) {  // splitmix64's finalizer
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::size_t kept(double density, std::size_t count) {
  const double k = std::round(density * static_cast<double>(count));
  return std::clamp<std::size_t>(static_cast<std::size_t>(k), std::min<std::size_t>(1, count),
                                 count);
}

// One position from each of k equal runs, so that none comes twice. Calls visit(i, position).
template <typename Visit>
void for_each_kept(std::size_t k, std::size_t count, const RandomKey& key, const Visit& visit) {
  const std::uint64_t start = mix(mix(mix(key.seed + 1) + key.step) + key.layer);
  for (std::size_t i = 0; i < k; ++i) {
    const std::size_t first = i * count / k, end = (i + 1) * count / k;
    visit(i, first + mix(start + i) % (end - first));
  }
}

class RandomK final : public LinearCompressor {
 public:
  explicit RandomK(const Level& level) : density_(level.parameter) {}

  int rounds() const override { return 1; }
  std::size_t round_floats(const MatrixShape& shape, int) const override {
    return kept(density_, shape.count());
  }

  // Nothing is kept from step to step.
  std::size_t state_floats(const MatrixShape&) const override { return 0; }
  void prepare(const MatrixShape&, const RandomKey&, LinearState&) const override {}
  void commit(const MatrixShape&, const RandomKey&, std::span<const std::span<float>>,
              LinearState&) const override {}

  void encode_round(int, std::span<const float> values, const MatrixShape&, const RandomKey& key,
                    const LinearState&, std::span<const std::span<float>>,
                    std::span<float> addend) const override {
    for_each_kept(addend.size(), values.size(), key,
                  [&](std::size_t i, std::size_t position) { addend[i] = values[position]; });
  }

  bool encode_first_round(std::span<float> values, std::span<const float> residual,
                          const MatrixShape& shape, const RandomKey& key, const LinearState& state,
                          std::span<float> addend) const override {
    for (std::size_t i = 0; i < residual.size(); ++i) values[i] += residual[i];
    encode_round(0, values, shape, key, state, {}, addend);
    return std::all_of(values.begin(), values.end(),
                       [](float value) { return std::isfinite(value); });
  }

  double result_bound(std::span<const std::span<float>> means) const override {
    float largest = 0;
    for (const float value : means[0]) largest = std::max(largest, std::abs(value));
    return largest;
  }

  void decode(const MatrixShape&, const RandomKey& key, std::span<const std::span<float>> means,
              std::span<float> values) const override {
    std::fill(values.begin(), values.end(), 0.0f);
    for_each_kept(means[0].size(), values.size(), key,
                  [&](std::size_t i, std::size_t position) { values[position] = means[0][i]; });
  }

  void decode_keep_loss(const MatrixShape& shape, const RandomKey& key,
                        std::span<const std::span<float>> means, std::span<const float> own,
                        std::span<float> values, std::span<float> residual) const override {
    std::copy(values.begin(), values.end(), residual.begin());
    for_each_kept(means[0].size(), values.size(), key,
                  [&](std::size_t i, std::size_t position) { residual[position] -= own[i]; });
    if (residual.data() != values.data()) decode(shape, key, means, values);
  }

 private:
  double density_;
};

// What a planner may choose from around a reference.
void neighbours(const Level& reference, std::vector<Level>& levels) {
  for (const double factor : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    Level level = reference;
    level.parameter = std::min(1.0, factor * reference.parameter);
    levels.push_back(level);
  }
}

// Each value is sent with the same probability: the expected square of what is left.
void add_losses(const LayerValues& layer, std::span<const Level> levels, std::span<double> sums) {
  double squares = 0;
  for (const float value : layer.values) squares += double{value} * double{value};
  const auto count = static_cast<double>(layer.values.size());
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const std::size_t k = kept(levels[i].parameter, layer.values.size());
    sums[i] += squares * (1 - static_cast<double>(k) / count);
  }
}

std::unique_ptr<LinearCompressor> make(const Level& level) {
  return std::make_unique<RandomK>(level);
}

}  // namespace

void register_random_k() {
  register_method({.row = {.method = kRandomK,
                           .name = "random_k",
                           .wire_version = 1,
                           .coded = false,
                           .min_parameter = 1e-6,
                           .max_parameter = 1,
                           .integer_parameter = false,
                           .parameter_name = "density",
                           .example = "random_k:0.1"},
                   .neighbours = neighbours,
                   .family = neighbours,
                   .add_losses = add_losses,
                   .letter = 'x',
                   .make_linear = make});
}
