// Quantisation per bucket: to nearest on Lloyd-Max grids (quantize_nearest.cc), or stochastic on
// uniform grids (QSGD, Alistarh et al. 2017; min-max layout as in CGX), which is unbiased.
//
// Payload of the latter, per bucket of B values: its range, which says the grid (quantize_grid.h),
// then the packed b-bit codes. Zero is on every grid, so what is zero stays zero, under error
// feedback and in means over the ranks, too.

#include <algorithm>
#include <cmath>

#include "src/base/random.h"
#include "src/compressors/analyze.h"
#include "src/compressors/compressors.h"
#include "src/compressors/payload.h"
#include "src/compressors/quantize.h"
#include "src/compressors/quantize_grid.h"
#include "src/compressors/spelling.h"
#include "src/kernels/quantize.h"
#include "src/kernels/spare_bits.h"

namespace lgreco {
namespace {

class QuantizeStochastic final : public CodedCompressor {
 public:
  explicit QuantizeStochastic(const Level& level)
      : bits_(static_cast<int>(level.parameter)), bucket_(level.bucket) {}

  std::size_t payload_bytes(std::size_t count) const override {
    return bytes_in_buckets(count, bucket_, [&](std::size_t n) { return bucket_bytes(n); });
  }

  bool encode(std::span<const float> values, const RandomKey& key, std::size_t first_element,
              std::span<std::byte> payload) const override {
    return for_each_bucket(values.size(), key, first_element, payload.data(), [&](Bucket bucket) {
      const float* bucket_values = values.data() + bucket.at;
      const auto header = QuantizeGrid::enclosing(kernels::range_of(bucket_values, bucket.count));
      if (!write(header, bucket)) return false;
      kernels::quantize_pack(bucket_values, bucket.count, header.grid(bits_), &bucket.stream,
                             bucket.first, bucket.codes());
      return true;
    });
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual,
                        const RandomKey& key, std::size_t first_element,
                        std::span<std::byte> payload) const override {
    return for_each_bucket(values.size(), key, first_element, payload.data(), [&](Bucket bucket) {
      float* bucket_values = values.data() + bucket.at;
      const float* addend = residual.empty() ? nullptr : residual.data() + bucket.at;
      kernels::Range range;
      if (!kernels::add_and_find_range(addend, bucket.count, bucket_values, range)) return false;
      const auto header = QuantizeGrid::enclosing(range);
      if (!write(header, bucket)) return false;
      const bool is_last = values.size() - bucket.at < 2 * bucket.count;
      const std::size_t next = is_last ? 0 : bucket.count;
      const float* next_addend = addend == nullptr ? bucket_values : addend + next;
      kernels::quantize_pack_keep_loss(bucket_values, bucket.count, header.grid(bits_),
                                       &bucket.stream, bucket.first, bucket.codes(),
                                       {bucket_values + next, next_addend});
      return true;
    });
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    Status size = check_size("[quantize]", payload, payload_bytes(accumulator.size()));
    if (!size.is_ok()) return size;
    const auto* in = reinterpret_cast<const std::uint8_t*>(payload.data());
    for (std::size_t at = 0; at < accumulator.size(); at += bucket_) {
      const std::size_t count = std::min<std::size_t>(bucket_, accumulator.size() - at);
      const auto header = QuantizeGrid::read(in);
      if (!header.is_valid()) {
        return Status::corrupt("[quantize] the range of the values from " + std::to_string(at) +
                               " on is not finite, or not of wire version " +
                               std::to_string(row_of(Method::quantize).wire_version));
      }
      if (!kernels::spare_bits_are_zero(in + sizeof header,
                                        count * static_cast<std::size_t>(bits_))) {
        return Status::corrupt("[quantize] a spare bit behind the last code is set");
      }
      kernels::unpack_dequantize_add(in + sizeof header, count, header.grid(bits_),
                                     accumulator.data() + at);
      in += bucket_bytes(count);
    }
    return Status::ok();
  }

 private:
  std::size_t bucket_bytes(std::size_t count) const {
    return sizeof(QuantizeGrid) + kernels::packed_bytes(count, bits_);
  }

  struct Bucket {
    std::size_t at;
    std::size_t count;
    std::uint32_t first;  // counter of the random numbers
    RandomStream stream;
    std::uint8_t* payload;

    std::uint8_t* codes() const { return payload + sizeof(QuantizeGrid); }
  };

  // Until `encode_bucket` returns false, which is returned then.
  template <typename EncodeBucket>
  bool for_each_bucket(std::size_t count, const RandomKey& key, std::size_t first_element,
                       std::byte* payload, const EncodeBucket& encode_bucket) const {
    auto* out = reinterpret_cast<std::uint8_t*>(payload);
    for (std::size_t at = 0; at < count; at += bucket_) {
      const std::size_t element = first_element + at;
      const Bucket bucket{.at = at,
                          .count = std::min<std::size_t>(bucket_, count - at),
                          .first = static_cast<std::uint32_t>(element),
                          .stream = stream_of(key, element),
                          .payload = out};
      if (!encode_bucket(bucket)) return false;
      out += bucket_bytes(bucket.count);
    }
    return true;
  }

  // False when it cannot be sent.
  static bool write(const QuantizeGrid& header, const Bucket& bucket) {
    header.write(bucket.payload);
    return header.is_valid();
  }

  int bits_;
  std::uint32_t bucket_;
};

std::string spell_bucket(const Level& level) { return std::to_string(level.bucket); }

bool parse_bucket(std::string_view text, Level& level) {
  constexpr double kMost = 1 << 24;
  const auto bucket = parse_number(text);
  if (!bucket || *bucket < 8 || *bucket > kMost || std::fmod(*bucket, 8) != 0) return false;
  level.bucket = static_cast<std::uint32_t>(*bucket);
  return true;
}

std::string spell_rounding(const Level& level) {
  return level.rounding == Rounding::nearest ? "nearest" : "stochastic";
}

bool parse_rounding(std::string_view text, Level& level) {
  if (text != "nearest" && text != "stochastic") return false;
  level.rounding = text == "nearest" ? Rounding::nearest : Rounding::stochastic;
  return true;
}

constexpr Setting kSettings[] = {
    {"bucket", "a multiple of 8 from 8 to 16777216", spell_bucket, parse_bucket},
    {"rounding", "nearest or stochastic", spell_rounding, parse_rounding}};

// Biases and norms are most of a small plan's bytes where they travel dense or in 16 bits. From six
// bits on, rounding to nearest loses a thousandth of their energy.
bool suits(Level& level, const LayerSpec& layer) {
  constexpr double kBitsForAnyLayer = 6;
  if (level.rounding == Rounding::nearest && level.parameter >= kBitsForAnyLayer) {
    return is_small_enough(level, layer);
  }
  return is_worth_coding(level, layer);
}

void neighbours(const Level& reference, std::vector<Level>& levels) {
  append_whole_numbers(reference, std::max(1.0, std::floor(reference.parameter / 2)),
                       std::min(8.0, 2 * reference.parameter), levels);
}

void family(const Level& reference, std::vector<Level>& levels) {
  append_whole_numbers(reference, 1, 8, levels);
}

double elements_sent(const Level& level, const MatrixShape& shape) {
  return static_cast<double>(shape.count()) * level.parameter / 32;
}

std::unique_ptr<CodedCompressor> make_quantize(const Level& level) {
  if (level.rounding == Rounding::nearest) return make_quantize_nearest(level);
  return std::make_unique<QuantizeStochastic>(level);
}

}  // namespace

constinit const MethodEntry kQuantize{.row = {.method = Method::quantize,
                                              .name = "quantize",
                                              .wire_version = 3,
                                              .coded = true,
                                              .min_parameter = 1,
                                              .max_parameter = 8,
                                              .integer_parameter = true,
                                              .parameter_name = "bits",
                                              .example = "quantize:4"},
                                      .settings = kSettings,
                                      .suits = suits,
                                      .neighbours = neighbours,
                                      .family = family,
                                      .add_losses = add_quantize_losses,
                                      .elements_sent = elements_sent,
                                      .letter = 'q',
                                      .make_coded = make_quantize};

}  // namespace lgreco
