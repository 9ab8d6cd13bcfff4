// One step for all values of a piece, as fine as the planned bytes allow, with a wider zone around
// zero, and a prefix code for what is not zero (src/kernels/run_level.h).
//
// Payload: a header (entropy_step.h), the raw bits of each value, packed, and the two streams of
// levels in what is left of ceil(rate * count / 8) bytes.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "src/compressors/analyze.h"
#include "src/compressors/compressors.h"
#include "src/compressors/entropy_step.h"
#include "src/kernels/pack_codes.h"
#include "src/kernels/spare_bits.h"

namespace lgreco {
namespace {

using kernels::kLevelBlock;

class Entropy final : public CodedCompressor {
 public:
  explicit Entropy(const Level& level) : rate_(level.parameter) {}

  std::size_t payload_bytes(std::size_t count) const override {
    return count == 0 ? 0 : sizeof(EntropyHeader) + entropy_code_bytes(rate_, count);
  }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    if (values.empty()) return true;
    EntropyChoice choice;
    return write(values, nullptr, nullptr, payload, choice);
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual, const RandomKey&,
                        std::size_t, std::span<std::byte> payload) const override {
    if (values.empty()) return true;
    EntropyChoice choice;
    const float* addend = residual.empty() ? nullptr : residual.data();
    if (!write(values, addend, values.data(), payload, choice)) return false;
    if (choice.header.bits == 0) return true;
    kernels::keep_loss(values.data(), values.size(), choice.zone());
    return true;
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    if (payload.size() != payload_bytes(accumulator.size())) {
      return Status::corrupt("[entropy] payload has " + std::to_string(payload.size()) +
                             " bytes instead of " +
                             std::to_string(payload_bytes(accumulator.size())));
    }
    if (accumulator.empty()) return Status::ok();
    EntropyHeader header;
    std::memcpy(&header, payload.data(), sizeof header);
    const auto code = payload.subspan(sizeof header);
    if (header.bits == 0) {
      const bool is_zero = std::all_of(code.begin(), code.end(),
                                       [](std::byte byte) { return byte == std::byte{0}; });
      return is_zero ? Status::ok() : Status::corrupt("[entropy] a code without a step");
    }
    if (!header.is_valid()) return Status::corrupt("[entropy] the step is zero or too large");
    const std::size_t raw_bytes = kernels::packed_bytes(accumulator.size(), header.raw_bits());
    if (raw_bytes > code.size() ||
        !kernels::spare_bits_are_zero(
            code.data(), accumulator.size() * static_cast<std::size_t>(header.raw_bits()))) {
      return Status::corrupt("[entropy] too many raw bits, or a spare one behind them is set");
    }
    if (!add_decoded(header, code.first(raw_bytes), code.subspan(raw_bytes), accumulator)) {
      return Status::corrupt(
          "[entropy] the levels do not end where they should, or one is too large");
    }
    return Status::ok();
  }

 private:
  // Of values + addend, which go to `sums`; see kernels::add_and_count.
  bool write(std::span<const float> values, const float* addend, float* sums,
             std::span<std::byte> payload, EntropyChoice& choice) const {
    std::uint32_t histogram[kernels::kMagnitudeBins] = {};
    kernels::add_and_count(values.data(), addend, values.size(), sums, histogram);
    const auto infinite = std::span(histogram).subspan(kernels::kFirstInfiniteBin);
    if (std::any_of(infinite.begin(), infinite.end(), [](std::uint32_t n) { return n > 0; })) {
      return false;
    }
    const EntropyStep step({histogram, kernels::kFirstInfiniteBin}, values.size());
    const auto code = payload.subspan(sizeof(EntropyHeader));
    choice = fill(step, values, code);
    std::memcpy(payload.data(), &choice.header, sizeof choice.header);
    return true;
  }

  // What is expected of the code is nearly what it takes. Where the values are not like the
  // independent ones that tables are made for, the second try knows by how much.
  EntropyChoice fill(const EntropyStep& step, std::span<const float> values,
                     std::span<std::byte> code) const {
    const double capacity = 8 * static_cast<double>(code.size());
    double wanted = step.capacity_of(rate_);
    double fits = 0, excessive = capacity * 8;
    for (int tries = 0; tries < 8; ++tries) {
      const EntropyChoice choice = step.choose(rate_, wanted);
      const double used = write_levels(values, choice, code);
      if (used > capacity) {
        excessive = std::min(excessive, wanted);
      } else if (used >= 0.98 * choice.bits || tries >= 3 || choice.is_finest) {
        return choice;
      } else {
        fits = std::max(fits, wanted);
      }
      wanted *= 0.999 * capacity / std::max(used, 1.0);
      if (wanted >= excessive || wanted <= fits) wanted = (fits + excessive) / 2;
    }
    const EntropyChoice choice = step.choose(rate_, fits);
    if (write_levels(values, choice, code) <= capacity) return choice;
    std::fill(code.begin(), code.end(), std::byte{0});
    return {};
  }

  // Bits that the code takes. `code` is as it should be if that is not more than it has.
  static double write_levels(std::span<const float> values, const EntropyChoice& choice,
                             std::span<std::byte> code) {
    if (choice.header.bits == 0) {
      std::fill(code.begin(), code.end(), std::byte{0});
      return 0;
    }
    const kernels::DeadZone zone = choice.zone();
    const std::size_t raw_bytes = kernels::packed_bytes(values.size(), zone.raw_bits);
    if (raw_bytes > code.size()) return 16 * static_cast<double>(code.size());
    kernels::RunLevelWriter writer(choice.header.table(), code.subspan(raw_bytes));
    std::uint32_t tokens[kLevelBlock + kernels::kTokenPadding];
    std::uint8_t raw[kLevelBlock + kernels::kCodePadding];
    const std::size_t first = kernels::first_stream(values.size());
    for (std::size_t at = 0; at < values.size(); at += kLevelBlock) {
      if (at == first) writer.finish_stream();
      const std::size_t length = std::min(kLevelBlock, values.size() - at);
      const std::size_t found = kernels::tokens_of(values.data() + at, length, zone, tokens, raw);
      if (zone.raw_bits > 0) {
        auto* packed = reinterpret_cast<std::uint8_t*>(code.data());
        kernels::pack_codes(raw, length, zone.raw_bits,
                            packed + kernels::packed_bytes(at, zone.raw_bits));
      }
      writer.put({tokens, found}, length);
    }
    if (values.size() == first) writer.finish_stream();
    writer.finish_stream();
    return 8 * static_cast<double>(raw_bytes + writer.used() + writer.excess());
  }

  static bool add_decoded(const EntropyHeader& header, std::span<const std::byte> raw_bits,
                          std::span<const std::byte> code, std::span<float> accumulator) {
    const kernels::DeadZone zone = header.zone();
    kernels::RunLevelReader reader(header.table(), code, accumulator.size());
    const std::size_t first = kernels::first_stream(accumulator.size());
    std::int16_t levels[2][kLevelBlock];
    bool possible = true;
    const auto add = [&](std::size_t at, std::span<const std::int16_t> block) {
      std::uint8_t raw[kLevelBlock + kernels::kCodePadding];
      if (zone.raw_bits > 0) {
        const auto* packed = reinterpret_cast<const std::uint8_t*>(raw_bits.data());
        kernels::unpack_codes(packed + kernels::packed_bytes(at, zone.raw_bits), block.size(),
                              zone.raw_bits, raw);
      }
      possible &=
          kernels::add_levels(block.data(), raw, block.size(), zone, accumulator.data() + at);
    };
    for (std::size_t at = 0; at < first; at += kLevelBlock) {
      const auto block_at = [&](int stream, std::size_t begin, std::size_t end) {
        const std::size_t length = begin < end ? std::min(kLevelBlock, end - begin) : 0;
        std::fill_n(levels[stream], length, std::int16_t{0});
        return std::span(levels[stream]).first(length);
      };
      const auto first_block = block_at(0, at, first);
      const auto second_block = block_at(1, first + at, accumulator.size());
      reader.read(first_block, second_block);
      add(at, first_block);
      add(first + at, second_block);
    }
    return reader.is_well_formed() && possible;
  }

  double rate_;
};

constexpr double kLeastRate = 0.01, kMostRate = 8;

void neighbours(const Level& reference, std::vector<Level>& levels) {
  Level level = reference;
  for (int k = -4; k <= 4; ++k) {
    level.parameter = reference.parameter * std::exp2(k / 2.0);
    if (level.parameter >= kLeastRate && level.parameter <= kMostRate) levels.push_back(level);
  }
}

void family(const Level& reference, std::vector<Level>& levels) {
  Level level = reference;
  for (const double rate : {0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0}) {
    level.parameter = rate;
    levels.push_back(level);
  }
}

std::unique_ptr<CodedCompressor> make_entropy(const Level& level) {
  return std::make_unique<Entropy>(level);
}

}  // namespace

constinit const MethodEntry kEntropy{.row = {.method = Method::entropy,
                                             .name = "entropy",
                                             .wire_version = 1,
                                             .coded = true,
                                             .min_parameter = kLeastRate,
                                             .max_parameter = kMostRate,
                                             .integer_parameter = false,
                                             .parameter_name = "rate",
                                             .example = "entropy:2"},
                                     .neighbours = neighbours,
                                     .family = family,
                                     .add_losses = add_entropy_losses,
                                     .letter = 'e',
                                     .make_coded = make_entropy};

}  // namespace lgreco
