// PowerSGD (Vogels et al., NeurIPS 2019, algorithm 1): one step of subspace iteration per call,
// started from the Q of the step before.
//
// Round 0 sums P = M Q, round 1 sums Q = M^T P with P orthonormalised; the layer becomes P Q^T.
// Between steps Q is scaled by a power of two to the magnitude 1, which changes no bit of the
// result but keeps gradients of 1e-25 from underflowing. Columns of Q that are zero are drawn anew.

#include <algorithm>
#include <cmath>

#include "src/base/random.h"
#include "src/compressors/analyze.h"
#include "src/compressors/compressors.h"
#include "src/compressors/spelling.h"
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
    return rank_ * column_floats(shape, round);
  }

  std::size_t column_floats(const MatrixShape& shape, int round) const override {
    return round == 0 ? shape.rows : shape.cols;
  }

  std::size_t state_floats(const MatrixShape& shape) const override { return rank_ * shape.cols; }

  // Columns that another rank of the plan left come first: they are ordered by importance.
  void prepare(const MatrixShape& shape, const RandomKey& key, LinearState& state) const override {
    state.factor.resize(state_floats(shape), 0.0f);
    draw_zero_columns(shape, key, state.factor);
  }

  void encode_round(int round, std::span<const float> values, const MatrixShape& shape,
                    const RandomKey&, const LinearState& state,
                    std::span<const std::span<float>> means,
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
                          const MatrixShape& shape, const RandomKey& key, const LinearState& state,
                          std::span<float> addend) const override {
    if (residual.empty()) {
      encode_round(0, values, shape, key, state, {}, addend);
    } else {
      kernels::add_and_multiply(residual.data(), shape.rows, shape.cols, state.factor.data(), rank_,
                                values.data(), addend.data());
    }
    return kernels::all_finite(addend.data(), addend.size());
  }

  // P is orthonormal, so that no entry of P Q^T exceeds it.
  double result_bound(std::span<const std::span<float>> means) const override {
    const std::span<const float> q = means[1];
    return static_cast<double>(rank_) *
           static_cast<double>(kernels::max_magnitude(q.data(), q.size()));
  }

  void decode(const MatrixShape& shape, const RandomKey&, std::span<const std::span<float>> means,
              std::span<float> values) const override {
    kernels::reconstruct(means[0].data(), means[1].data(), shape.rows, shape.cols, rank_,
                         values.data());
  }

  void decode_keep_loss(const MatrixShape& shape, const RandomKey&,
                        std::span<const std::span<float>> means, std::span<const float> own,
                        std::span<float> values, std::span<float> residual) const override {
    kernels::reconstruct_keep_loss(means[0].data(), means[1].data(), own.data(), shape.rows,
                                   shape.cols, rank_, values.data(), residual.data());
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

std::string spell_min_ratio(const Level& level) { return spell_number(level.min_ratio); }

bool parse_min_ratio(std::string_view text, Level& level) {
  const auto ratio = parse_number(text);
  if (!ratio || *ratio <= 0) return false;
  level.min_ratio = *ratio;
  return true;
}

std::string spell_factors(const Level& level) {
  if (level.factor_bits == 0) return spell_dtype<&Level::factors>(level);
  return spell_number(level.factor_bits);
}

bool parse_factors(std::string_view text, Level& level) {
  if (parse_dtype<&Level::factors, DType::f32, DType::bf16>(text, level)) {
    level.factor_bits = 0;
    return true;
  }
  const auto bits = parse_bits(text);
  if (!bits) return false;
  level.factors = DType::f32;
  level.factor_bits = *bits;
  return true;
}

constexpr Setting kSettings[] = {
    {"min_ratio", "positive and finite", spell_min_ratio, parse_min_ratio},
    {"factors", "fp32, bf16 or a number of bits from 2 to 8", spell_factors, parse_factors}};

double smaller_side(const MatrixShape& shape) {
  return static_cast<double>(std::min(shape.rows, shape.cols));
}

bool suits(Level& level, const LayerSpec& layer) {
  const MatrixShape shape = layer.matrix();
  level.parameter = std::min(level.parameter, smaller_side(shape));
  const double factors = static_cast<double>(shape.rows + shape.cols) * level.parameter;
  return layer.shape.size() >= 2 && level.min_ratio * factors < static_cast<double>(shape.count());
}

void neighbours(const Level& reference, std::vector<Level>& levels) {
  append_whole_numbers(reference, std::ceil(reference.parameter / 2), 2 * reference.parameter,
                       levels);
}

void family(const Level& reference, std::vector<Level>& levels) {
  constexpr double kMany = 64;  // one measures them at once, but the planner weighs each
  const double rank = reference.parameter;
  const double most = std::min(4 * rank, std::max(rank, kMany));
  append_whole_numbers(reference, 1, most, levels);
  const auto last = static_cast<int>(most);
  for (const std::uint8_t bits : {8, 6, 4}) {
    if (reference.factor_bits == bits) continue;
    Level level = reference;
    level.factors = DType::f32;
    level.factor_bits = bits;
    // Among many columns a step of one is small.
    for (int next = 1; next <= last; next += std::max(1, next / 8)) {
      level.parameter = next;
      levels.push_back(level);
    }
  }
}

std::unique_ptr<LinearCompressor> make_low_rank(const Level& level) {
  return std::make_unique<LowRank>(level);
}

}  // namespace

constinit const MethodEntry kLowRank{
    .row = {.method = Method::low_rank,
            .name = "low_rank",
            .wire_version = 1,
            .coded = false,
            .min_parameter = 1,
            .max_parameter = 65535,
            .integer_parameter = true,
            .parameter_name = "rank",
            .example = "low_rank:4"},
    .settings = kSettings,
    .suits = suits,
    .neighbours = neighbours,
    .family = family,
    .add_losses = add_low_rank_losses,
    .cost_to_measure = smaller_side,  // for each element, a row of the Gram matrix
    .letter = 'r',
    .make_linear = make_low_rank};

}  // namespace lgreco
