// No compression. Payload: the values as fp32, little-endian.

#include <algorithm>
#include <cstring>

#include "src/compressors/compressors.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

class Dense final : public CodedCompressor {
 public:
  std::size_t payload_bytes(std::size_t count) const override { return sizeof(float) * count; }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    std::copy_n(std::as_bytes(values).begin(), values.size_bytes(), payload.begin());
    return true;
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual,
                        const RandomKey& key, std::size_t first_element,
                        std::span<std::byte> payload) const override {
    return encode_keep_loss_in_blocks(*this, values, residual, key, first_element, payload);
  }

  Status decode_add(std::span<const std::byte> payload, std::span<float> accumulator,
                    float sign) const override {
    if (payload.size() != accumulator.size_bytes()) {
      return Status::corrupt("[dense] payload has " + std::to_string(payload.size()) +
                             " bytes instead of " + std::to_string(accumulator.size_bytes()));
    }
    constexpr std::size_t kBlock = 1024;
    float block[kBlock];  // aligned, which the payload need not be
    for (std::size_t at = 0; at < accumulator.size(); at += kBlock) {
      const std::size_t count = std::min(kBlock, accumulator.size() - at);
      std::memcpy(block, payload.data() + at * sizeof(float), count * sizeof(float));
      if (!kernels::all_finite(block, count)) {
        return Status::corrupt("[dense] payload holds a non-finite value");
      }
      kernels::add_signed(block, count, sign, accumulator.data() + at);
    }
    return Status::ok();
  }
};

}  // namespace

std::unique_ptr<CodedCompressor> make_dense(const Level&) { return std::make_unique<Dense>(); }

}  // namespace lgreco
