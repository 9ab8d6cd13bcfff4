// No compression. Payload: the values as fp32, little-endian.

#include <algorithm>
#include <cstring>

#include "src/compressors/compressors.h"
#include "src/compressors/payload.h"
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

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual, const RandomKey&,
                        std::size_t, std::span<std::byte> payload) const override {
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const std::size_t count = std::min(kBlock, values.size() - at);
      float* block = values.data() + at;
      const float* addend = residual.empty() ? nullptr : residual.data() + at;
      if (!kernels::add_addend(addend, count, block)) return false;
      std::memcpy(payload.data() + at * sizeof(float), block, count * sizeof(float));
      std::fill_n(block, count, 0.0f);
    }
    return true;
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    Status size = check_size("[dense]", payload, accumulator.size_bytes());
    if (!size.is_ok()) return size;
    float block[kBlock];  // aligned, which the payload need not be
    for (std::size_t at = 0; at < accumulator.size(); at += kBlock) {
      const std::size_t count = std::min(kBlock, accumulator.size() - at);
      std::memcpy(block, payload.data() + at * sizeof(float), count * sizeof(float));
      if (!kernels::accumulate(block, count, accumulator.data() + at)) {
        return Status::corrupt("[dense] payload holds a non-finite value");
      }
    }
    return Status::ok();
  }

 private:
  static constexpr std::size_t kBlock = 1024;
};

// What a layer falls back to decides: a 16-bit one travels in its own type.
bool suits_none(Level&, const LayerSpec&) { return false; }

// Every list of levels ends with dense as it is.
void none(const Level&, std::vector<Level>&) {}

void lose_nothing(const LayerValues&, std::span<const Level>, std::span<double>) {}

std::unique_ptr<CodedCompressor> make_dense(const Level&) { return std::make_unique<Dense>(); }

}  // namespace

constinit const MethodEntry kDense{.row = {.method = Method::dense,
                                           .name = "dense",
                                           .wire_version = 1,
                                           .coded = true,
                                           .min_parameter = 0,
                                           .max_parameter = 0,
                                           .integer_parameter = false,
                                           .parameter_name = "",
                                           .example = "dense"},
                                   .suits = suits_none,
                                   .neighbours = none,
                                   .family = none,
                                   .add_losses = lose_nothing,
                                   .make_coded = make_dense};

}  // namespace lgreco
