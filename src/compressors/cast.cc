// Cast to bf16 or fp16, round to nearest even. Payload: the 16-bit values, little-endian.

#include <algorithm>
#include <cstring>
#include <string>

#include "src/compressors/analyze.h"
#include "src/compressors/compressors.h"
#include "src/compressors/payload.h"
#include "src/compressors/spelling.h"
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
    std::uint16_t block[kBlock];  // aligned, which the payload need not be
    bool representable = true;
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const std::size_t count = std::min(kBlock, values.size() - at);
      if (to_ == DType::bf16) {
        kernels::to_bf16(values.data() + at, count, block);
      } else {
        kernels::to_f16(values.data() + at, count, block);
      }
      representable &= finite({block, count});
      std::memcpy(payload.data() + 2 * at, block, 2 * count);
    }
    return representable;
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual, const RandomKey&,
                        std::size_t, std::span<std::byte> payload) const override {
    std::uint16_t block[kBlock];
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const std::size_t count = std::min(kBlock, values.size() - at);
      const float* addend = residual.empty() ? nullptr : residual.data() + at;
      const bool representable =
          to_ == DType::bf16 ? kernels::to_bf16_keep_loss(addend, count, values.data() + at, block)
                             : kernels::to_f16_keep_loss(addend, count, values.data() + at, block);
      if (!representable) return false;
      std::memcpy(payload.data() + 2 * at, block, 2 * count);
    }
    return true;
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    Status size = check_size("[cast]", payload, payload_bytes(accumulator.size()));
    if (!size.is_ok()) return size;
    std::uint16_t block[kBlock];
    float values[kBlock];
    for (std::size_t at = 0; at < accumulator.size(); at += kBlock) {
      const std::size_t count = std::min(kBlock, accumulator.size() - at);
      std::memcpy(block, payload.data() + 2 * at, 2 * count);
      if (to_ == DType::bf16) {
        kernels::from_bf16(block, count, values);
      } else {
        kernels::from_f16(block, count, values);
      }
      if (!kernels::accumulate(values, count, accumulator.data() + at)) {
        return Status::corrupt("[cast] payload holds a non-finite value");
      }
    }
    return Status::ok();
  }

 private:
  static constexpr std::size_t kBlock = 1024;

  // All exponent bits set: NaN or infinity.
  bool finite(std::span<const std::uint16_t> values) const {
    const std::uint16_t exponent = to_ == DType::bf16 ? 0x7F80 : 0x7C00;
    std::uint16_t found = 0;  // of the width of a value, which lets the loop be vectorised
    for (std::uint16_t value : values) found |= (value & exponent) == exponent ? 1 : 0;
    return found == 0;
  }

  DType to_;
};

constexpr Setting kType{"type", "bf16 or fp16", spell_dtype<&Level::values>,
                        parse_dtype<&Level::values, DType::bf16, DType::f16>};

// Small layers, too: nothing has to be worth it.
bool suits(Level&, const LayerSpec& layer) { return layer.dtype == DType::f32; }

void family(const Level&, std::vector<Level>& levels) {
  levels.push_back({.method = Method::cast, .values = DType::bf16});
}

std::unique_ptr<CodedCompressor> make_cast(const Level& level) {
  return std::make_unique<Cast>(level.values);
}

}  // namespace

constinit const MethodEntry kCast{.row = {.method = Method::cast,
                                          .name = "cast",
                                          .wire_version = 1,
                                          .coded = true,
                                          .min_parameter = 0,
                                          .max_parameter = 0,
                                          .integer_parameter = false,
                                          .parameter_name = "type",
                                          .example = "cast:bf16"},
                                  .parameter = &kType,
                                  .suits = suits,
                                  .family = family,
                                  .add_losses = add_cast_losses,
                                  .make_coded = make_cast};

}  // namespace lgreco
