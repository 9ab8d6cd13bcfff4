// The k largest magnitudes, k = max(1, round(density * count)).
//
// Payload: the k positions in ascending order, Elias-Fano coded (src/kernels/elias_fano.h), then
// their k values, in few bits (topk_values.h) or as bf16 or fp32. With
// l = max(0, floor(log2(count / k))) the positions have
//   ceil(k * l / 8) + ceil((k + floor((count - 1) / 2^l)) / 8) bytes.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "src/compressors/analyze.h"
#include "src/compressors/compressors.h"
#include "src/compressors/payload.h"
#include "src/compressors/spelling.h"
#include "src/compressors/topk_count.h"
#include "src/compressors/topk_values.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/elias_fano.h"
#include "src/kernels/topk.h"

namespace lgreco {
namespace {

constexpr std::size_t kBlock = kernels::TopKCandidates::kBlock;
constexpr std::size_t kAhead = 3;  // blocks that memory takes to answer

class TopK final : public CodedCompressor {
 public:
  explicit TopK(const Level& level)
      : density_(level.parameter), bits_(level.value_bits), values_(level.values) {}

  std::size_t payload_bytes(std::size_t count) const override {
    if (count == 0) return 0;
    const std::size_t k = kept(count);
    return kernels::EliasFano(count, k).bytes() +
           (bits_ == 0 ? k * size_of(values_) : TopKValues::kHeader + TopKValues::bytes(k, bits_));
  }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    if (values.empty()) return true;
    const std::size_t k = kept(values.size());
    kernels::TopKCandidates candidates(values.size());
    const auto threshold = kernels::find_threshold(values.data(), values.size(), k, candidates);
    return write(values, k, threshold, candidates, payload, [](std::size_t, float) {});
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual, const RandomKey&,
                        std::size_t, std::span<std::byte> payload) const override {
    if (values.empty()) return true;
    const std::size_t k = kept(values.size());
    const float* addend = residual.empty() ? nullptr : residual.data();
    kernels::TopKThreshold threshold;
    kernels::TopKCandidates candidates(values.size());
    return kernels::add_and_find_threshold(addend, values.size(), k, values.data(), threshold,
                                           candidates) &&
           write(values, k, threshold, candidates, payload,
                 [&](std::size_t position, float sent) { values[position] -= sent; });
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    Status size = check_size("[topk]", payload, payload_bytes(accumulator.size()));
    if (!size.is_ok()) return size;
    if (accumulator.empty()) return Status::ok();
    const kernels::EliasFano code(accumulator.size(), kept(accumulator.size()));
    kernels::EliasFanoReader positions(code, payload.data());
    if (!positions.is_well_formed()) {
      return Status::corrupt("[topk] the positions are not " + std::to_string(code.k) +
                             ", or a spare bit is set");
    }
    const std::byte* in = payload.data() + code.bytes();
    if (bits_ != 0) return add_few_bits(code.k, positions, in, accumulator);
    for (std::size_t i = 0; i < code.k; ++i, in += size_of(values_)) {
      Status status = add_next(i, positions, read_value(in), accumulator);
      if (!status.is_ok()) return status;
    }
    return Status::ok();
  }

 private:
  std::size_t kept(std::size_t count) const { return topk_count(density_, count); }

  static Status add_next(std::size_t entry, kernels::EliasFanoReader& positions, float value,
                         std::span<float> accumulator) {
    std::uint64_t position;
    if (!positions.next(position) || !std::isfinite(value)) {
      return Status::corrupt("[topk] entry " + std::to_string(entry) + " (position " +
                             std::to_string(position) +
                             ") is out of order, out of the layer or not finite");
    }
    accumulator[position] += value;
    return Status::ok();
  }

  Status add_few_bits(std::size_t k, kernels::EliasFanoReader& positions, const std::byte* in,
                      std::span<float> accumulator) const {
    const TopKValues values = TopKValues::read(in, bits_);
    if (!values.is_valid()) return Status::corrupt("[topk] the base of the values is not finite");
    in += TopKValues::kHeader;
    float block[TopKValues::kBlock];
    for (std::size_t at = 0; at < k; at += TopKValues::kBlock) {
      const std::size_t count = std::min(TopKValues::kBlock, k - at);
      if (!values.decode(in, {block, count})) {
        return Status::corrupt(
            "[topk] the grid of the values from entry " + std::to_string(at) +
            " on is not finite or not that of their base, or a spare bit is set");
      }
      for (std::size_t i = 0; i < count; ++i) {
        Status status = add_next(at + i, positions, block[i], accumulator);
        if (!status.is_ok()) return status;
      }
      in += TopKValues::bytes(count, bits_);
    }
    return Status::ok();
  }

  // Kept values that are not written yet, and where they are.
  struct Pending {
    std::size_t count = 0;
    std::size_t positions[kBlock + TopKValues::kBlock];
    float values[kBlock + TopKValues::kBlock];
  };

  // `on_sent(position, sent)` is told what the payload says of a kept value. False when a value
  // overflows its type.
  template <typename OnSent>
  bool write(std::span<const float> values, std::size_t k, kernels::TopKThreshold threshold,
             const kernels::TopKCandidates& candidates, std::span<std::byte> payload,
             const OnSent& on_sent) const {
    const kernels::EliasFano code(values.size(), k);
    kernels::EliasFanoWriter positions(code, payload.data());
    std::byte* out = payload.data() + code.bytes();
    const TopKValues few(bits_, std::bit_cast<float>(threshold.magnitude));
    if (bits_ != 0) {
      few.write(out);
      out += TopKValues::kHeader;
    }
    std::uint32_t indices[kBlock];
    Pending pending;
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const std::size_t length = std::min(kBlock, values.size() - at);
      const float* block = values.data() + at;
      candidates.prefetch(values.data(), at / kBlock + kAhead);
      const std::uint64_t runs = candidates.runs(at / kBlock);
      if (runs == 0) continue;
      const std::size_t found = kernels::select_block(block, length, runs, threshold, indices);
      positions.append(at, {indices, found});
      for (std::size_t i = 0; i < found; ++i, ++pending.count) {
        pending.positions[pending.count] = at + indices[i];
        pending.values[pending.count] = block[indices[i]];
      }
      const std::size_t rest = bits_ == 0 ? 0 : pending.count % TopKValues::kBlock;
      if (!write_first(pending, pending.count - rest, few, out, on_sent)) return false;
    }
    return write_first(pending, pending.count, few, out, on_sent);
  }

  template <typename OnSent>
  bool write_first(Pending& pending, std::size_t count, const TopKValues& few, std::byte*& out,
                   const OnSent& on_sent) const {
    if (count == 0) return true;
    const std::span<float> values(pending.values, count);
    if (!(bits_ == 0 ? write_as_type(values, out) : few.encode(values, out))) return false;
    out += bits_ == 0 ? count * size_of(values_) : TopKValues::bytes(count, bits_);
    for (std::size_t i = 0; i < count; ++i) on_sent(pending.positions[i], values[i]);
    pending.count -= count;
    std::copy_n(pending.positions + count, pending.count, pending.positions);
    std::copy_n(pending.values + count, pending.count, pending.values);
    return true;
  }

  // Leaves in `values` what is written. False when one overflows its type.
  bool write_as_type(std::span<float> values, std::byte* out) const {
    if (values_ == DType::f32) {
      std::memcpy(out, values.data(), values.size_bytes());
      return true;
    }
    std::uint16_t halves[kBlock];
    kernels::to_bf16(values.data(), values.size(), halves);
    kernels::from_bf16(halves, values.size(), values.data());
    std::memcpy(out, halves, values.size() * sizeof *halves);
    return kernels::all_finite(values.data(), values.size());
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
  int bits_;  // of a value; 0: of the type
  DType values_;
};

constexpr double kLeastDensity = 1e-6;

std::string spell_values(const Level& level) {
  return level.value_bits == 0 ? spell_dtype<&Level::values>(level)
                               : std::to_string(level.value_bits);
}

bool parse_values(std::string_view text, Level& level) {
  if (parse_dtype<&Level::values, DType::bf16, DType::f32>(text, level)) {
    level.value_bits = 0;
    return true;
  }
  const auto bits = parse_bits(text);
  if (!bits) return false;
  level.value_bits = *bits;
  return true;
}

constexpr Setting kSettings[] = {
    {"values", "bf16, fp32 or a number of bits from 2 to 8", spell_values, parse_values}};

void neighbours(const Level& reference, std::vector<Level>& levels) {
  append_half_octaves(reference, kLeastDensity, 1, levels);
}

void family(const Level& reference, std::vector<Level>& levels) {
  Level level = reference;
  for (const double density : {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5}) {
    level.parameter = density;
    if (reference.value_bits != Level{}.value_bits) {
      levels.push_back(level);
      continue;
    }
    for (const std::uint8_t bits : {2, 4, 6}) {
      level.value_bits = bits;
      levels.push_back(level);
    }
  }
}

double elements_sent(const Level& level, const MatrixShape& shape) {
  const auto kept = static_cast<double>(topk_count(level.parameter, shape.count()));
  return level.value_bits == 0 ? kept : kept * level.value_bits / 32;
}

std::unique_ptr<CodedCompressor> make_topk(const Level& level) {
  return std::make_unique<TopK>(level);
}

}  // namespace

constinit const MethodEntry kTopK{.row = {.method = Method::topk,
                                          .name = "topk",
                                          .wire_version = 2,
                                          .coded = true,
                                          .min_parameter = kLeastDensity,
                                          .max_parameter = 1,
                                          .integer_parameter = false,
                                          .parameter_name = "density",
                                          .example = "topk:0.01"},
                                  .settings = kSettings,
                                  .neighbours = neighbours,
                                  .family = family,
                                  .add_losses = add_topk_losses,
                                  .elements_sent = elements_sent,
                                  .letter = 'k',
                                  .make_coded = make_topk};

}  // namespace lgreco
