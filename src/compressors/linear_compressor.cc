#include <algorithm>

#include "lgreco/compressor.h"
#include "src/kernels/elementwise.h"

namespace lgreco {

bool LinearCompressor::encode_first_round(std::span<float> values, std::span<const float> residual,
                                          const MatrixShape& shape, const LinearState& state,
                                          const RandomKey& key, std::span<float> addend) const {
  if (!residual.empty()) {
    kernels::add(values.data(), residual.data(), values.size(), values.data());
  }
  encode_round(0, values, shape, state, key, {}, addend);
  return kernels::all_finite(values.data(), values.size()) &&
         kernels::all_finite(addend.data(), addend.size());
}

void LinearCompressor::decode_keep_loss(const MatrixShape& shape,
                                        std::span<const std::span<float>> means,
                                        std::span<float> values, std::span<float> residual) const {
  std::copy(values.begin(), values.end(), residual.begin());
  decode(shape, means, values);
  kernels::subtract(residual.data(), values.data(), values.size(), residual.data());
}

}  // namespace lgreco
