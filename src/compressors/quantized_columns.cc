#include "src/compressors/quantized_columns.h"
#include "src/compressors/payload.h"

#include <algorithm>
#include <string>
#include <utility>

namespace lgreco {
namespace {

constexpr std::uint32_t kBlock = 256;

class QuantizedColumns final : public CodedCompressor {
 public:
  QuantizedColumns(std::unique_ptr<CodedCompressor> quantize, std::size_t column)
      : quantize_(std::move(quantize)), column_(column) {}

  std::size_t payload_bytes(std::size_t count) const override {
    return bytes_in_buckets(count, column_,
                            [&](std::size_t n) { return quantize_->payload_bytes(n); });
  }
  std::size_t granularity() const override { return column_; }

  bool encode(std::span<const float> values, const RandomKey& key, std::size_t first_element,
              std::span<std::byte> payload) const override {
    return for_each_column(values.size(), payload, [&](std::size_t at, auto count, auto part) {
      return quantize_->encode(values.subspan(at, count), key, first_element + at, part);
    });
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual,
                        const RandomKey& key, std::size_t first_element,
                        std::span<std::byte> payload) const override {
    return for_each_column(values.size(), payload, [&](std::size_t at, auto count, auto part) {
      const auto addend = residual.empty() ? residual : residual.subspan(at, count);
      return quantize_->encode_keep_loss(values.subspan(at, count), addend, key, first_element + at,
                                         part);
    });
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    Status size = check_size("[factor]", payload, payload_bytes(accumulator.size()));
    if (!size.is_ok()) return size;
    Status status = Status::ok();
    for_each_column(accumulator.size(), payload, [&](std::size_t at, auto count, auto part) {
      status = quantize_->decode_add(part, accumulator.subspan(at, count));
      return status.is_ok();
    });
    return status;
  }

 private:
  // Until `work` returns false, which is returned then.
  template <typename Bytes, typename Work>
  bool for_each_column(std::size_t count, Bytes payload, const Work& work) const {
    for (std::size_t at = 0; at < count; at += column_) {
      const std::size_t length = std::min(column_, count - at);
      const std::size_t bytes = quantize_->payload_bytes(length);
      if (!work(at, length, payload.first(bytes))) return false;
      payload = payload.subspan(bytes);
    }
    return true;
  }

  std::unique_ptr<CodedCompressor> quantize_;
  std::size_t column_;
};

}  // namespace

double rounding_loss_of_normal(int bits) {
  constexpr double kLosses[] = {0.1167, 0.0341, 0.00912, 0.00226, 0.00061, 0.000162, 0.0000474};
  return kLosses[bits - 2];
}

std::unique_ptr<CodedCompressor> quantized_columns(int bits, std::size_t column) {
  return std::make_unique<QuantizedColumns>(coded_compressor({.method = Method::quantize,
                                                              .parameter = bits * 1.0,
                                                              .bucket = kBlock,
                                                              .rounding = Rounding::nearest}),
                                            std::max<std::size_t>(column, 1));
}

}  // namespace lgreco
