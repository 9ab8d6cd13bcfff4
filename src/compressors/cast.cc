// Cast to bf16 or fp16, round to nearest even. Payload: the 16-bit values, little-endian.

#include <algorithm>
#include <string>

#include "src/compressors/compressors.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

class Cast final : public CodedCompressor {
 public:
  explicit Cast(DType to) : to_(to) {}

  std::size_t payload_bytes(std::size_t count) const override { return 2 * count; }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    auto* out = reinterpret_cast<std::uint16_t*>(payload.data());
    if (to_ == DType::bf16) {
      kernels::to_bf16(values.data(), values.size(), out);
    } else {
      kernels::to_f16(values.data(), values.size(), out);
    }
    return finite(payload);
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    if (payload.size() != payload_bytes(accumulator.size())) {
      return Status::corrupt("[cast] payload has " + std::to_string(payload.size()) +
                             " bytes instead of " +
                             std::to_string(payload_bytes(accumulator.size())));
    }
    if (!finite(payload)) return Status::corrupt("[cast] payload holds a non-finite value");
    constexpr std::size_t kBlock = 1024;
    float block[kBlock];
    const auto* in = reinterpret_cast<const std::uint16_t*>(payload.data());
    for (std::size_t at = 0; at < accumulator.size(); at += kBlock) {
      const std::size_t count = std::min(kBlock, accumulator.size() - at);
      if (to_ == DType::bf16) {
        kernels::from_bf16(in + at, count, block);
      } else {
        kernels::from_f16(in + at, count, block);
      }
      kernels::add(accumulator.data() + at, block, count, accumulator.data() + at);
    }
    return Status::ok();
  }

 private:
  // All exponent bits set: NaN or infinity.
  bool finite(std::span<const std::byte> payload) const {
    const auto* values = reinterpret_cast<const std::uint16_t*>(payload.data());
    const std::uint16_t exponent = to_ == DType::bf16 ? 0x7F80 : 0x7C00;
    bool all = true;
    for (std::size_t i = 0; i < payload.size() / 2; ++i) {
      all &= (values[i] & exponent) != exponent;
    }
    return all;
  }

  DType to_;
};

}  // namespace

std::unique_ptr<CodedCompressor> make_cast(const Level& level) {
  return std::make_unique<Cast>(level.values);
}

}  // namespace lgreco
