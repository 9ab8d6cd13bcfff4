// The k largest magnitudes, k = max(1, round(density * count)).
//
// Payload: k indices (uint32, ascending), then k values (bf16 or fp32).

#include <cmath>
#include <cstring>
#include <limits>

#include "lgreco/status.h"
#include "src/compressors/compressors.h"
#include "src/kernels/cast.h"
#include "src/kernels/topk.h"

namespace lgreco {
namespace {

class TopK final : public CodedCompressor {
 public:
  explicit TopK(const Level& level) : density_(level.parameter), values_(level.values) {}

  std::size_t payload_bytes(std::size_t count) const override {
    return kept(count) * (sizeof(std::uint32_t) + size_of(values_));
  }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    const std::size_t k = kept(values.size());
    if (k == 0) return true;
    if (values.size() > std::numeric_limits<std::uint32_t>::max()) {
      throw ConfigError("[topk] a piece of " + std::to_string(values.size()) +
                        " values is too long for 32-bit indices");
    }
    auto* indices = reinterpret_cast<std::uint32_t*>(payload.data());
    kernels::select_top_k(values.data(), values.size(), k, indices);
    std::byte* out = payload.data() + k * sizeof(std::uint32_t);
    bool representable = true;
    for (std::size_t i = 0; i < k; ++i, out += size_of(values_)) {
      const float value = values[indices[i]];
      if (values_ == DType::f32) {
        std::memcpy(out, &value, sizeof value);
      } else {
        std::uint16_t bits;
        kernels::to_bf16(&value, 1, &bits);
        std::memcpy(out, &bits, sizeof bits);
        representable &= std::isfinite(kernels::bf16_value(bits));
      }
    }
    return representable;
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    const std::size_t k = kept(accumulator.size());
    if (payload.size() != payload_bytes(accumulator.size())) {
      return Status::corrupt("[topk] payload has " + std::to_string(payload.size()) +
                             " bytes instead of " +
                             std::to_string(payload_bytes(accumulator.size())));
    }
    const std::byte* index_at = payload.data();
    const std::byte* value_at = payload.data() + k * sizeof(std::uint32_t);
    std::uint64_t smallest = 0;  // the least index that may follow
    for (std::size_t i = 0; i < k; ++i) {
      std::uint32_t index;
      std::memcpy(&index, index_at + i * sizeof index, sizeof index);
      const float value = value_of(value_at + i * size_of(values_));
      if (index < smallest || index >= accumulator.size() || !std::isfinite(value)) {
        return Status::corrupt("[topk] entry " + std::to_string(i) + " (index " +
                               std::to_string(index) +
                               ") is out of order, out of the layer or "
                               "not finite");
      }
      smallest = std::uint64_t{index} + 1;
      accumulator[index] += value;
    }
    return Status::ok();
  }

 private:
  std::size_t kept(std::size_t count) const {
    if (count == 0) return 0;
    const double k = std::round(density_ * static_cast<double>(count));
    return std::min(count, std::max<std::size_t>(1, static_cast<std::size_t>(k)));
  }

  float value_of(const std::byte* at) const {
    if (values_ == DType::f32) {
      float value;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    std::uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return kernels::bf16_value(bits);
  }

  double density_;
  DType values_;
};

}  // namespace

std::unique_ptr<CodedCompressor> make_topk(const Level& level) {
  return std::make_unique<TopK>(level);
}

}  // namespace lgreco
