#include "lgreco/compressor.h"
#include "src/kernels/elementwise.h"

namespace lgreco {

bool CodedCompressor::encode_keep_loss(std::span<float> values, std::span<const float> residual,
                                       const RandomKey& key, std::size_t first_element,
                                       std::span<std::byte> payload) const {
  if (!residual.empty()) {
    kernels::add(values.data(), residual.data(), values.size(), values.data());
  }
  return kernels::all_finite(values.data(), values.size()) &&
         encode(values, key, first_element, payload) && decode_add(payload, values, -1.0f).is_ok();
}

}  // namespace lgreco
