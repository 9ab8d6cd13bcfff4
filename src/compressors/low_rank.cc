// PowerSGD (Vogels et al., NeurIPS 2019, algorithm 1): one step of subspace iteration per call,
// started from the Q of the step before.
//
// Round 0 sums P = M Q, round 1 sums Q = M^T P with P orthonormalised; the layer becomes P Q^T.
// Between steps Q is scaled by a power of two to the magnitude 1, which changes no bit of the
// result but keeps gradients of 1e-25 from underflowing. Columns of Q that are zero are drawn anew.

#include <algorithm>
#include <cmath>

#include "src/base/random.h"
#include "src/compressors/compressors.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/low_rank.h"

namespace lgreco {
namespace {

// Column `column` of the shared start factor: standard normal, the same on every rank and the same
// whatever the rank of the factor is.
void draw_column(const RandomKey& key, std::size_t column, std::span<float> out) {
  constexpr double kTwoPi = 6.283185307179586;
  const RandomStream stream = stream_of({key.seed, mix64(key.step) + column, key.layer});
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto counter = static_cast<std::uint32_t>(2 * i);
    const double radius = std::sqrt(-2.0 * std::log1p(-double{uniform(stream, counter)}));
    out[i] = static_cast<float>(radius * std::cos(kTwoPi * uniform(stream, counter + 1)));
  }
}

void scale_to_one(std::span<float> values) {
  const float largest = kernels::max_magnitude(values.data(), values.size());
  if (largest == 0) return;
  // Two factors, since one power of two does not span the subnormals.
  const int shift = -std::ilogb(largest);
  kernels::scale(values.data(), std::ldexp(1.0f, shift / 2), values.size(), values.data());
  kernels::scale(values.data(), std::ldexp(1.0f, shift - shift / 2), values.size(), values.data());
}

class LowRank final : public LinearCompressor {
 public:
  explicit LowRank(const Level& level) : rank_(static_cast<std::size_t>(level.parameter)) {}

  int rounds() const override { return 2; }

  std::size_t round_floats(const MatrixShape& shape, int round) const override {
    return rank_ * (round == 0 ? shape.rows : shape.cols);
  }

  // Columns that another rank of the plan left come first: they are ordered by importance.
  void prepare(const MatrixShape& shape, const RandomKey& key, LinearState& state) const override {
    state.factor.resize(rank_ * shape.cols, 0.0f);
    draw_zero_columns(shape, key, state.factor);
  }

  void encode_round(int round, std::span<const float> values, const MatrixShape& shape,
                    const LinearState& state, std::span<const std::span<float>> means,
                    std::span<float> addend) const override {
    if (round == 0) {
      kernels::multiply(values.data(), shape.rows, shape.cols, state.factor.data(), rank_,
                        addend.data());
    } else {
      kernels::orthonormalize(means[0].data(), shape.rows, rank_);
      kernels::multiply_transposed(values.data(), shape.rows, shape.cols, means[0].data(), rank_,
                                   addend.data());
    }
  }

  // What is not finite in the layer is not finite in P, whose sums run over all values.
  bool encode_first_round(std::span<float> values, std::span<const float> residual,
                          const MatrixShape& shape, const LinearState& state,
                          std::span<float> addend) const override {
    if (residual.empty()) {
      encode_round(0, values, shape, state, {}, addend);
    } else {
      kernels::add_and_multiply(residual.data(), shape.rows, shape.cols, state.factor.data(), rank_,
                                values.data(), addend.data());
    }
    return kernels::all_finite(addend.data(), addend.size());
  }

  // P is orthonormal, so that no entry of P Q^T exceeds it.
  double result_bound(std::span<const std::span<float>> means) const override {
    return static_cast<double>(rank_) * kernels::max_magnitude(means[1].data(), means[1].size());
  }

  void decode(const MatrixShape& shape, std::span<const std::span<float>> means,
              std::span<float> values) const override {
    kernels::reconstruct(means[0].data(), means[1].data(), shape.rows, shape.cols, rank_,
                         values.data());
  }

  void decode_keep_loss(const MatrixShape& shape, std::span<const std::span<float>> means,
                        std::span<float> values, std::span<float> residual) const override {
    kernels::reconstruct_keep_loss(means[0].data(), means[1].data(), shape.rows, shape.cols, rank_,
                                   values.data(), residual.data());
  }

  void commit(const MatrixShape& shape, const RandomKey& key,
              std::span<const std::span<float>> means, LinearState& state) const override {
    std::copy(means[1].begin(), means[1].end(), state.factor.begin());
    scale_to_one(state.factor);
    draw_zero_columns(shape, key, state.factor);
  }

 private:
  // The new columns of a larger rank, and those in which the layer had nothing.
  void draw_zero_columns(const MatrixShape& shape, const RandomKey& key,
                         std::span<float> factor) const {
    for (std::size_t column = 0; column < rank_; ++column) {
      const std::span<float> values = factor.subspan(column * shape.cols, shape.cols);
      if (kernels::max_magnitude(values.data(), values.size()) == 0) {
        draw_column(key, column, values);
      }
    }
  }

  std::size_t rank_;
};

}  // namespace

std::unique_ptr<LinearCompressor> make_low_rank(const Level& level) {
  return std::make_unique<LowRank>(level);
}

}  // namespace lgreco
