// Uniform quantisation per bucket (QSGD, Alistarh et al. 2017; min-max layout as in CGX).
//
// Payload, per bucket of B values: low and unit as bf16 (4 bytes), then the packed b-bit codes.
// `low` is rounded down and `unit` up, so that the range encloses every value.

#include <cmath>
#include <cstring>

#include "src/base/random.h"
#include "src/compressors/compressors.h"
#include "src/kernels/cast.h"
#include "src/kernels/quantize.h"

namespace lgreco {
namespace {

struct Header {
  std::uint16_t low;
  std::uint16_t unit;
};
static_assert(sizeof(Header) == 4);

class Quantize final : public CodedCompressor {
 public:
  explicit Quantize(const Level& level)
      : bits_(static_cast<int>(level.parameter)),
        bucket_(level.bucket),
        stochastic_(level.rounding == Rounding::stochastic) {}

  std::size_t payload_bytes(std::size_t count) const override {
    const std::size_t full = count / bucket_;
    const std::size_t rest = count % bucket_;
    return full * bucket_bytes(bucket_) + (rest == 0 ? 0 : bucket_bytes(rest));
  }

  bool encode(std::span<const float> values, const RandomKey& key, std::size_t first_element,
              std::span<std::byte> payload) const override {
    std::byte* out = payload.data();
    for (std::size_t at = 0; at < values.size(); at += bucket_) {
      const std::size_t count = std::min<std::size_t>(bucket_, values.size() - at);
      const std::size_t element = first_element + at;
      // The counter has 32 bits; what is above goes into the key.
      const RandomStream stream = stream_of({key.seed ^ (element >> 32), key.step, key.layer});
      if (!encode_bucket(values.data() + at, count, stream, static_cast<std::uint32_t>(element),
                         out)) {
        return false;
      }
      out += bucket_bytes(count);
    }
    return true;
  }

  Status decode_add(std::span<const std::byte> payload, std::span<float> accumulator,
                    float sign) const override {
    if (payload.size() != payload_bytes(accumulator.size())) {
      return Status::corrupt("[quantize] payload has " + std::to_string(payload.size()) +
                             " bytes instead of " +
                             std::to_string(payload_bytes(accumulator.size())));
    }
    const std::byte* in = payload.data();
    for (std::size_t at = 0; at < accumulator.size(); at += bucket_) {
      const std::size_t count = std::min<std::size_t>(bucket_, accumulator.size() - at);
      Header header;
      std::memcpy(&header, in, sizeof header);
      const float low = kernels::bf16_value(header.low);
      const float unit = kernels::bf16_value(header.unit);
      if (!std::isfinite(low + static_cast<float>(max_code()) * unit) || !(unit >= 0)) {
        return Status::corrupt("[quantize] the range of the values from " + std::to_string(at) +
                               " on is not finite or negative");
      }
      if (!spare_bits_are_zero(in + sizeof header, count)) {
        return Status::corrupt("[quantize] a spare bit behind the last code is set");
      }
      kernels::unpack_dequantize_add(reinterpret_cast<const std::uint8_t*>(in) + sizeof header,
                                     count, bits_, sign * low, sign * unit,
                                     accumulator.data() + at);
      in += bucket_bytes(count);
    }
    return Status::ok();
  }

 private:
  std::size_t bucket_bytes(std::size_t count) const {
    return sizeof(Header) + kernels::packed_bytes(count, bits_);
  }
  bool spare_bits_are_zero(const std::byte* codes, std::size_t count) const {
    const std::size_t bits = count * static_cast<std::size_t>(bits_);
    return bits % 8 == 0 || std::to_integer<unsigned>(codes[bits / 8]) >> (bits % 8) == 0;
  }
  int max_code() const { return (1 << bits_) - 1; }

  bool encode_bucket(const float* values, std::size_t count, const RandomStream& stream,
                     std::uint32_t first, std::byte* out) const {
    const kernels::Range range = kernels::range_of(values, count);
    Header header{kernels::bf16_below(range.low), 0};
    const float low = kernels::bf16_value(header.low);
    // Halved so that the width of a range over the whole of fp32 does not overflow.
    const float half_width = range.high * 0.5f - low * 0.5f;
    header.unit = kernels::bf16_above(half_width / (static_cast<float>(max_code()) * 0.5f));
    const float unit = kernels::bf16_value(header.unit);
    if (!std::isfinite(low + static_cast<float>(max_code()) * unit)) return false;
    std::memcpy(out, &header, sizeof header);
    kernels::quantize_pack(values, count, bits_, low, unit, stochastic_ ? &stream : nullptr, first,
                           reinterpret_cast<std::uint8_t*>(out) + sizeof header);
    return true;
  }

  int bits_;
  std::uint32_t bucket_;
  bool stochastic_;
};

}  // namespace

std::unique_ptr<CodedCompressor> make_quantize(const Level& level) {
  return std::make_unique<Quantize>(level);
}

}  // namespace lgreco
