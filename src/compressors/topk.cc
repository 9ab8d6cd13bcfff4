// The k largest magnitudes, k = max(1, round(density * count)).
//
// Payload: the k positions in ascending order, Elias-Fano coded (src/kernels/elias_fano.h), then
// their k values (bf16 or fp32). With l = max(0, floor(log2(count / k))) it has
//   ceil(k * l / 8) + ceil((k + floor((count - 1) / 2^l)) / 8) + k * (2 or 4) bytes.

#include <cmath>
#include <cstring>

#include "src/compressors/analyze.h"
#include "src/compressors/compressors.h"
#include "src/compressors/spelling.h"
#include "src/compressors/topk_count.h"
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
  explicit TopK(const Level& level) : density_(level.parameter), values_(level.values) {}

  std::size_t payload_bytes(std::size_t count) const override {
    if (count == 0) return 0;
    const std::size_t k = kept(count);
    return kernels::EliasFano(count, k).bytes() + k * size_of(values_);
  }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    if (values.empty()) return true;
    const std::size_t k = kept(values.size());
    kernels::TopKCandidates candidates(values.size());
    const auto threshold = kernels::find_threshold(values.data(), values.size(), k, candidates);
    return write(values, k, threshold, candidates, payload,
                 [](std::size_t, std::span<const std::uint32_t>, std::span<const float>) {});
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
                 [&](std::size_t at, std::span<const std::uint32_t> indices,
                     std::span<const float> sent) {
                   for (std::size_t i = 0; i < sent.size(); ++i) values[at + indices[i]] -= sent[i];
                 });
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
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
      accumulator[position] += value;
    }
    return Status::ok();
  }

 private:
  std::size_t kept(std::size_t count) const { return topk_count(density_, count); }

  // `on_sent(at, indices, sent)` is told, block by block, what the payload says of the values from
  // `at` on. False when a value overflows its type.
  template <typename OnSent>
  bool write(std::span<const float> values, std::size_t k, kernels::TopKThreshold threshold,
             const kernels::TopKCandidates& candidates, std::span<std::byte> payload,
             const OnSent& on_sent) const {
    const kernels::EliasFano code(values.size(), k);
    kernels::EliasFanoWriter positions(code, payload.data());
    std::byte* out = payload.data() + code.bytes();
    std::uint32_t indices[kBlock];
    float sent[kBlock];
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const std::size_t length = std::min(kBlock, values.size() - at);
      const float* block = values.data() + at;
      candidates.prefetch(values.data(), at / kBlock + kAhead);
      const std::uint64_t runs = candidates.runs(at / kBlock);
      if (runs == 0) continue;
      const std::size_t found = kernels::select_block(block, length, runs, threshold, indices);
      for (std::size_t i = 0; i < found; ++i) {
        positions.append(at + indices[i]);
        sent[i] = block[indices[i]];
      }
      if (!write_values({sent, found}, out)) return false;
      on_sent(at, {indices, found}, {sent, found});
      out += found * size_of(values_);
    }
    return true;
  }

  // Leaves in `values` what is written. False when one overflows its type.
  bool write_values(std::span<float> values, std::byte* out) const {
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
  DType values_;
};

constexpr double kLeastDensity = 1e-6;

constexpr Setting kSettings[] = {{"values", "bf16 or fp32", spell_dtype<&Level::values>,
                                  parse_dtype<&Level::values, DType::bf16, DType::f32>}};

void neighbours(const Level& reference, std::vector<Level>& levels) {
  Level level = reference;
  for (int k = -4; k <= 4; ++k) {
    level.parameter = reference.parameter * std::exp2(k / 2.0);
    if (level.parameter >= kLeastDensity && level.parameter <= 1) levels.push_back(level);
  }
}

void family(const Level& reference, std::vector<Level>& levels) {
  Level level = reference;
  for (const double density : {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5}) {
    level.parameter = density;
    levels.push_back(level);
  }
}

double elements_sent(const Level& level, const MatrixShape& shape) {
  return static_cast<double>(topk_count(level.parameter, shape.count()));
}

std::unique_ptr<CodedCompressor> make_topk(const Level& level) {
  return std::make_unique<TopK>(level);
}

}  // namespace

constinit const MethodEntry kTopK{.row = {.method = Method::topk,
                                          .name = "topk",
                                          .wire_version = 1,
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
