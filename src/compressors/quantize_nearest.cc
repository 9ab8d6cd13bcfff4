// Quantisation to nearest on Lloyd-Max grids: what `quantize` does unless it is to be unbiased.
//
// Payload, per bucket of B values: 2 bytes that say the grid (bucket_grid.h), then the packed b-bit
// codes. Where a bucket has zeros, zero is on its grid.

#include <algorithm>

#include "src/compressors/bucket_grid.h"
#include "src/compressors/payload.h"
#include "src/compressors/quantize.h"
#include "src/kernels/lloyd_max_table.h"
#include "src/kernels/spare_bits.h"

namespace lgreco {
namespace {

class QuantizeNearest final : public CodedCompressor {
 public:
  explicit QuantizeNearest(const Level& level)
      : bits_(static_cast<int>(level.parameter)), bucket_(level.bucket) {}

  std::size_t payload_bytes(std::size_t count) const override {
    return bytes_in_buckets(count, bucket_, [&](std::size_t n) { return bucket_bytes(n); });
  }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    auto* out = reinterpret_cast<std::uint8_t*>(payload.data());
    for (std::size_t at = 0; at < values.size(); at += bucket_) {
      const auto bucket = values.subspan(at, std::min<std::size_t>(bucket_, values.size() - at));
      kernels::Moments moments;
      if (!kernels::moments_of(bucket.data(), bucket.size(), moments)) return false;
      const auto grid = BucketGrid::of(moments, bucket.data(), bucket.size(), bits_);
      if (!write_header(grid, out)) return false;
      grid.pack(bucket.data(), bucket.size(), out + kHeader);
      out += bucket_bytes(bucket.size());
    }
    return true;
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual, const RandomKey&,
                        std::size_t, std::span<std::byte> payload) const override {
    auto* out = reinterpret_cast<std::uint8_t*>(payload.data());
    for (std::size_t at = 0; at < values.size(); at += bucket_) {
      const std::size_t count = std::min<std::size_t>(bucket_, values.size() - at);
      float* bucket = values.data() + at;
      const float* addend = residual.empty() ? nullptr : residual.data() + at;
      kernels::Moments moments;
      if (!kernels::add_and_find_moments(addend, count, bucket, moments)) return false;
      const auto grid = BucketGrid::of(moments, bucket, count, bits_);
      if (!write_header(grid, out)) return false;
      const std::size_t next = values.size() - at < 2 * count ? 0 : count;
      grid.pack_keep_loss(bucket, count, out + kHeader,
                          {bucket + next, addend == nullptr ? bucket + next : addend + next});
      out += bucket_bytes(count);
    }
    return true;
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    Status size = check_size("[quantize]", payload, payload_bytes(accumulator.size()));
    if (!size.is_ok()) return size;
    const auto* in = reinterpret_cast<const std::uint8_t*>(payload.data());
    for (std::size_t at = 0; at < accumulator.size(); at += bucket_) {
      const std::size_t count = std::min<std::size_t>(bucket_, accumulator.size() - at);
      const auto grid = BucketGrid::read(kernels::read_16(in), bits_, kernels::lloyd_max_table());
      if (!grid) {
        return Status::corrupt("[quantize] the grid of the values from " + std::to_string(at) +
                               " on is not finite or not known");
      }
      if (!kernels::spare_bits_are_zero(in + kHeader, count * static_cast<std::size_t>(bits_))) {
        return Status::corrupt("[quantize] a spare bit behind the last code is set");
      }
      grid->unpack_add(in + kHeader, count, accumulator.data() + at);
      in += bucket_bytes(count);
    }
    return Status::ok();
  }

 private:
  static constexpr std::size_t kHeader = sizeof(std::uint16_t);

  std::size_t bucket_bytes(std::size_t count) const {
    return kHeader + kernels::packed_bytes(count, bits_);
  }

  // False when it cannot be sent.
  static bool write_header(const BucketGrid& grid, std::uint8_t* out) {
    kernels::write_16(grid.header(), out);
    return grid.is_valid(kernels::lloyd_max_table());
  }

  int bits_;
  std::uint32_t bucket_;
};

}  // namespace

std::unique_ptr<CodedCompressor> make_quantize_nearest(const Level& level) {
  return std::make_unique<QuantizeNearest>(level);
}

}  // namespace lgreco
