#include <algorithm>

#include "lgreco/compressor.h"
#include "src/compressors/compressors.h"
#include "src/kernels/elementwise.h"

namespace lgreco {

bool CodedCompressor::encode_keep_loss(std::span<float> values, std::span<const float> residual,
                                       const RandomKey& key, std::size_t first_element,
                                       std::span<std::byte> payload) const {
  const bool finite = residual.empty() ? kernels::all_finite(values.data(), values.size())
                                       : kernels::add_finite(values.data(), residual.data(),
                                                             values.size(), values.data());
  return finite && encode(values, key, first_element, payload) &&
         decode_add(payload, values, -1.0f).is_ok();
}

bool encode_keep_loss_in_blocks(const CodedCompressor& codec, std::span<float> values,
                                std::span<const float> residual, const RandomKey& key,
                                std::size_t first_element, std::span<std::byte> payload) {
  constexpr std::size_t kBlock = 1024;
  for (std::size_t at = 0; at < values.size(); at += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - at);
    const std::size_t bytes = codec.payload_bytes(count);
    if (!codec.CodedCompressor::encode_keep_loss(
            values.subspan(at, count), residual.empty() ? residual : residual.subspan(at, count),
            key, first_element + at, payload.first(bytes))) {
      return false;
    }
    payload = payload.subspan(bytes);
  }
  return true;
}

}  // namespace lgreco
