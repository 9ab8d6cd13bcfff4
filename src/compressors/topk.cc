// The k largest magnitudes, k = max(1, round(density * count)).
//
// Payload: the k positions in ascending order, Elias-Fano coded (src/kernels/elias_fano.h), then
// their k values (bf16 or fp32). With l = max(0, floor(log2(count / k))) it has
//   ceil(k * l / 8) + ceil((k + floor((count - 1) / 2^l)) / 8) + k * (2 or 4) bytes.

#include <cmath>
#include <cstring>

#include "src/compressors/compressors.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/elias_fano.h"
#include "src/kernels/topk.h"

namespace lgreco {
namespace {

constexpr std::size_t kBlock = 1024;

class TopK final : public CodedCompressor {
 public:
  explicit TopK(const Level& level) : density_(level.parameter), values_(level.values) {}

  std::size_t payload_bytes(std::size_t count) const override {
    if (count == 0) return 0;
    const std::size_t k = kept(count);
    return kernels::EliasFano(count, k).bytes() + k * size_of(values_);
  }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    if (values.empty()) return true;
    const kernels::EliasFano code(values.size(), kept(values.size()));
    kernels::EliasFanoWriter positions(code, payload.data());
    std::byte* out = payload.data() + code.bytes();
    auto threshold = kernels::find_threshold(values.data(), values.size(), code.k);
    std::uint32_t indices[kBlock];
    float kept_values[kBlock];
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const std::size_t length = std::min(kBlock, values.size() - at);
      const float* block = values.data() + at;
      const std::size_t found = kernels::select_block(block, length, threshold, indices);
      for (std::size_t i = 0; i < found; ++i) {
        positions.append(at + indices[i]);
        kept_values[i] = block[indices[i]];
      }
      if (!write_values({kept_values, found}, out)) return false;
      out += found * size_of(values_);
    }
    return true;
  }

  Status decode_add(std::span<const std::byte> payload, std::span<float> accumulator,
                    float sign) const override {
    if (payload.size() != payload_bytes(accumulator.size())) {
      return Status::corrupt("[topk] payload has " + std::to_string(payload.size()) +
                             " bytes instead of " +
                             std::to_string(payload_bytes(accumulator.size())));
    }
    if (accumulator.empty()) return Status::ok();
    const kernels::EliasFano code(accumulator.size(), kept(accumulator.size()));
    kernels::EliasFanoReader positions(code, payload.data());
    if (!positions.is_well_formed()) {
      return Status::corrupt("[topk] the positions are not " + std::to_string(code.k) +
                             ", or a spare bit is set");
    }
    const std::byte* in = payload.data() + code.bytes();
    for (std::size_t i = 0; i < code.k; ++i, in += size_of(values_)) {
      std::uint64_t position;
      const bool possible = positions.next(position);
      const float value = read_value(in);
      if (!possible || !std::isfinite(value)) {
        return Status::corrupt("[topk] entry " + std::to_string(i) + " (position " +
                               std::to_string(position) +
                               ") is out of order, out of the layer or not finite");
      }
      accumulator[position] += sign * value;
    }
    return Status::ok();
  }

 private:
  std::size_t kept(std::size_t count) const {
    const double k = std::round(density_ * static_cast<double>(count));
    return std::min(count, std::max<std::size_t>(1, static_cast<std::size_t>(k)));
  }

  // False when a value overflows its type.
  bool write_values(std::span<const float> values, std::byte* out) const {
    if (values_ == DType::f32) {
      std::memcpy(out, values.data(), values.size_bytes());
      return true;
    }
    std::uint16_t halves[kBlock];
    float rounded[kBlock];
    kernels::to_bf16(values.data(), values.size(), halves);
    kernels::from_bf16(halves, values.size(), rounded);
    std::memcpy(out, halves, values.size() * sizeof *halves);
    return kernels::all_finite(rounded, values.size());
  }

  float read_value(const std::byte* at) const {
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
