// No compression: one round, the layer itself.

#include <algorithm>

#include "src/compressors/compressors.h"

namespace lgreco {
namespace {

class Dense final : public LinearCompressor {
 public:
  int rounds() const override { return 1; }

  std::size_t round_floats(const MatrixShape& shape, int) const override { return shape.count(); }

  void encode_round(int, std::span<const float> values, const MatrixShape&, const LinearState&,
                    const RandomKey&, std::span<const std::span<float>>,
                    std::span<float> addend) const override {
    std::copy(values.begin(), values.end(), addend.begin());
  }

  void decode(const MatrixShape&, std::span<const std::span<float>> means,
              std::span<float> values) const override {
    std::copy(means[0].begin(), means[0].end(), values.begin());
  }

  void commit(const MatrixShape&, const RandomKey&, std::span<const std::span<float>>,
              LinearState&) const override {}
};

}  // namespace

std::unique_ptr<LinearCompressor> make_dense(const Level&) { return std::make_unique<Dense>(); }

}  // namespace lgreco
