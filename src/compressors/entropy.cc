// One step for all values of a piece, as fine as the planned bytes allow, with a wider zone around
// zero, and a prefix code for what is not zero (src/kernels/run_level.h).
//
// Payload: a header (entropy_step.h), the raw bits of each value, packed, and the two streams of
// levels in what is left of the bytes. Where many values are alike and no step sends a fitting part
// of them, it is that of those which come first.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "src/compressors/analyze.h"
#include "src/compressors/compressors.h"
#include "src/compressors/entropy_step.h"
#include "src/compressors/payload.h"
#include "src/compressors/spelling.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/pack_codes.h"
#include "src/kernels/spare_bits.h"

namespace lgreco {
namespace {

using kernels::kLevelBlock;

constexpr int kTries = 15, kGuesses = 3, kSampleTries = 3;
constexpr std::size_t kLeastSample = 1 << 19;

// What a payload says: the levels of the first `end` values. The others are zeros.
struct Sent {
  EntropyChoice choice;
  std::size_t end = 0;
};

struct Written {
  double bits = 0;
  bool sends = false;  // some value is not zero
  bool finite = true;
};

// What is encoded: values + addend, unless there is none. Whoever first walks all of them writes
// the sums, which are the values from then on.
struct Sums {
  std::span<const float> values;
  const float* addend = nullptr;
  float* sums = nullptr;

  void are_written() {
    addend = nullptr;
    sums = nullptr;
  }
};

class Entropy final : public CodedCompressor {
 public:
  explicit Entropy(const Level& level) : rate_(level.parameter) {}

  std::size_t payload_bytes(std::size_t count) const override {
    return count == 0 ? 0 : sizeof(EntropyHeader) + entropy_code_bytes(rate_, count);
  }

  bool encode(std::span<const float> values, const RandomKey&, std::size_t,
              std::span<std::byte> payload) const override {
    Sent sent;
    return values.empty() || write({.values = values}, payload, sent);
  }

  bool encode_keep_loss(std::span<float> values, std::span<const float> residual, const RandomKey&,
                        std::size_t, std::span<std::byte> payload) const override {
    if (values.empty()) return true;
    Sent sent;
    const float* addend = residual.empty() ? nullptr : residual.data();
    if (!write({values, addend, values.data()}, payload, sent)) return false;
    if (sent.end > 0) kernels::keep_loss(values.data(), sent.end, sent.choice.zone());
    return true;
  }

  Status decode_add(std::span<const std::byte> payload,
                    std::span<float> accumulator) const override {
    Status size = check_size("[entropy]", payload, payload_bytes(accumulator.size()));
    if (!size.is_ok()) return size;
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
  bool write(Sums sums, std::span<std::byte> payload, Sent& sent) const {
    const auto code = payload.subspan(sizeof(EntropyHeader));
    const std::size_t count = sums.values.size();
    bool finite = true;
    if (!write_by_sample(sums, code, sent, finite)) {
      std::uint32_t histogram[kernels::kMagnitudeBins] = {};
      if (finite) kernels::count_magnitudes(sums.values.data(), sums.addend, count, histogram);
      const auto infinite = std::span(histogram).subspan(kernels::kFirstInfiniteBin);
      finite &= std::all_of(infinite.begin(), infinite.end(), [](auto n) { return n == 0; });
      if (!finite) return false;
      sent = fill(EntropyStep({histogram, kernels::kFirstInfiniteBin}, count), sums, code);
    }
    std::memcpy(payload.data(), &sent.choice.header, sizeof sent.choice.header);
    return true;
  }

  // Of very many values a sample can tell which step fits. False where it does not, or a sum is not
  // finite.
  bool write_by_sample(Sums& sums, std::span<std::byte> code, Sent& sent, bool& finite) const {
    const std::size_t count = sums.values.size();
    // Primes, lest the sample be of a few columns of a matrix.
    const std::size_t stride = count < 3 * kLeastSample    ? 1
                               : count < 7 * kLeastSample  ? 3
                               : count < 17 * kLeastSample ? 7
                                                           : 17;
    if (stride == 1) return false;
    std::uint32_t histogram[kernels::kMagnitudeBins] = {};
    const std::size_t sampled =
        kernels::count_magnitudes(sums.values.data(), sums.addend, count, histogram, stride);
    const EntropyStep step({histogram, kernels::kFirstInfiniteBin}, sampled, count);
    const double expected = step.capacity_of(rate_);
    double wanted = expected;
    for (int tries = 0; tries < kSampleTries; ++tries) {
      const EntropyChoice choice = step.filling(rate_, wanted);
      const Written written = write_levels(sums, choice, code);
      finite = written.finite;
      sent = {choice, count};
      if (!finite || !written.sends) return false;
      const double spare = 8 * static_cast<double>(code.size()) - written.bits;
      const bool is_close = tries > 0 && spare >= 0 && spare <= much_of(code);
      if (is_close || fills(written, choice, expected, code)) return true;
      wanted = expected * choice.bits / written.bits;
    }
    return false;
  }

  // Bits that may be left over where they cannot be helped.
  static double much_of(std::span<const std::byte> code) {
    return static_cast<double>(code.size()) / 2;
  }

  // As well as can be, also where the next finer step would send much more.
  static bool fills(const Written& written, const EntropyChoice& choice, double wanted,
                    std::span<const std::byte> code) {
    const double capacity = 8 * static_cast<double>(code.size()), much = much_of(code);
    const double little = std::min(much, capacity - 0.98 * wanted);
    const double spare = capacity - written.bits;
    return spare >= 0 && spare <= (written.bits >= 0.98 * choice.bits ? much : little);
  }

  // What is expected of a step is nearly what its code takes, unless the values are not like the
  // independent ones that tables are made for, or so much alike that a step sends many or none.
  Sent fill(const EntropyStep& step, Sums& sums, std::span<std::byte> code) const {
    const std::span values = sums.values;
    const double capacity = 8 * static_cast<double>(code.size());
    const double much = much_of(code);
    std::uint32_t too_fine = step.finest() - 1, fits = step.coarsest();
    EntropyChoice best;  // with `fits`, if that sends anything, and what it takes
    double used = 0;
    double wanted = step.capacity_of(rate_);
    const double first_wanted = wanted;
    std::uint32_t next = step.choose(rate_, wanted);
    for (int tries = 0; tries < kTries && fits - too_fine > 1; ++tries) {
      if (next <= too_fine || next >= fits) next = (too_fine + fits) / 2;
      const EntropyChoice choice = step.at(rate_, next);
      const Written here = write_levels(sums, choice, code);
      if (!here.sends) {
        fits = next;
      } else if (here.bits > capacity) {
        too_fine = next;
      } else {
        fits = next;
        best = choice;
        used = here.bits;
        if (fills(here, choice, first_wanted, code)) return {best, values.size()};
      }
      wanted *= 0.999 * capacity / std::max(here.bits, 1.0);
      next = tries < kGuesses ? step.choose(rate_, wanted) : 0;
    }
    if (too_fine >= step.finest() && capacity - used > much) {
      EntropyChoice finer = step.at_without_raw_bits(rate_, too_fine);
      std::size_t end = write_prefix(values, finer, code);
      while (end == 0 && finer.header.expect_more_zeros()) end = write_prefix(values, finer, code);
      if (end > 0 && loss_of(values, {finer, end}) < loss_of(values, {best, values.size()})) {
        return {finer, end};
      }
    }
    write_levels(sums, best, code);
    return {best, best.header.bits == 0 ? 0 : values.size()};
  }

  // `code` is as it should be if it has that many bits.
  static Written write_levels(Sums& sums, const EntropyChoice& choice, std::span<std::byte> code) {
    const std::span values = sums.values;
    if (choice.header.bits == 0) {
      if (sums.addend != nullptr) {
        kernels::add(values.data(), sums.addend, values.size(), sums.sums);
        sums.are_written();
      }
      std::fill(code.begin(), code.end(), std::byte{0});
      return {};
    }
    const bool adds = sums.addend != nullptr;
    const kernels::DeadZone zone = choice.zone();
    const std::size_t raw_bytes = kernels::packed_bytes(values.size(), zone.raw_bits);
    kernels::RunLevelWriter writer(choice.header.table(), code.subspan(raw_bytes));
    std::uint32_t tokens[kLevelBlock];
    std::uint8_t raw[kLevelBlock + kernels::kCodePadding];
    const std::size_t first = kernels::first_stream(values.size());
    bool sends = false;
    for (std::size_t at = 0; at < values.size(); at += kLevelBlock) {
      if (at == first) writer.finish_stream();
      const std::size_t length = std::min(kLevelBlock, values.size() - at);
      const std::size_t found =
          kernels::add_and_find_tokens(values.data() + at, adds ? sums.addend + at : nullptr,
                                       length, adds ? sums.sums + at : nullptr, zone, tokens, raw);
      if (found == kernels::kNotFinite) return {.finite = false};
      sends |= found > 0;
      if (zone.raw_bits > 0) {
        const std::uint8_t zero = 1 << (zone.raw_bits - 1);
        sends = sends || std::any_of(raw, raw + length, [&](auto code) { return code != zero; });
        auto* packed = reinterpret_cast<std::uint8_t*>(code.data());
        kernels::pack_codes(raw, length, zone.raw_bits,
                            packed + kernels::packed_bytes(at, zone.raw_bits));
      }
      writer.put({tokens, found}, length);
    }
    if (values.size() == first) writer.finish_stream();
    writer.finish_stream();
    sums.are_written();
    return {8 * static_cast<double>(raw_bytes + writer.used() + writer.excess()), sends};
  }

  // As many of the first levels as there is room for; the others become zeros. Returns how many
  // values these are of, 0 if no level fits. REQUIRES: no raw bits.
  static std::size_t write_prefix(std::span<const float> values, const EntropyChoice& choice,
                                  std::span<std::byte> code) {
    const kernels::DeadZone zone = choice.zone();
    kernels::RunLevelWriter writer(choice.header.table(), code);
    std::uint32_t tokens[kLevelBlock];
    std::uint8_t no_raw[kLevelBlock];
    const std::size_t first = kernels::first_stream(values.size());
    std::size_t levels = 0;
    for (std::size_t at = 0; at < values.size(); at += kLevelBlock) {
      if (at == first) writer.finish_stream();
      const std::size_t length = std::min(kLevelBlock, values.size() - at);
      const std::size_t found =
          kernels::tokens_of(values.data() + at, length, zone, tokens, no_raw);
      const kernels::RunLevelWriter before = writer;
      const auto fits = [&](std::size_t some) {
        return ends_within(before, {tokens, some}, at, values.size());
      };
      writer.put({tokens, found}, length);
      levels += found;
      if (writer.room() >= 2 * kernels::kMostEndBytes || fits(found)) continue;
      std::size_t some = 0, too_many = found;
      while (too_many - some > 1) {
        const std::size_t middle = (some + too_many) / 2;
        (fits(middle) ? some : too_many) = middle;
      }
      if (!fits(some) || levels - found + some == 0) return 0;
      return at + (tokens[some] >> 16);
    }
    if (values.size() == first) writer.finish_stream();
    writer.finish_stream();
    return levels == 0 ? 0 : values.size();
  }

  // Writes these levels of the values from `at` on, and zeros for those behind.
  static bool ends_within(kernels::RunLevelWriter writer, std::span<const std::uint32_t> tokens,
                          std::size_t at, std::size_t count) {
    const std::size_t first = kernels::first_stream(count);
    if (at < first) {
      writer.put(tokens, first - at);
      writer.finish_stream();
      if (first < count) writer.put({}, count - first);
    } else {
      writer.put(tokens, count - at);
    }
    writer.finish_stream();
    return writer.excess() == 0;
  }

  static double loss_of(std::span<const float> values, const Sent& sent) {
    double loss = 0;
    float left[kLevelBlock];
    for (std::size_t at = 0; at < values.size(); at += kLevelBlock) {
      const auto block = values.subspan(at, std::min(kLevelBlock, values.size() - at));
      std::copy(block.begin(), block.end(), left);
      if (at < sent.end && sent.choice.header.bits != 0) {
        kernels::keep_loss(left, std::min(block.size(), sent.end - at), sent.choice.zone());
      }
      loss += kernels::sum_squares(left, block.size());
    }
    return loss;
  }

  static bool add_decoded(const EntropyHeader& header, std::span<const std::byte> raw_bits,
                          std::span<const std::byte> code, std::span<float> accumulator) {
    const kernels::DeadZone zone = header.zone();
    kernels::RunLevelReader reader(header.table(), code, accumulator.size());
    const std::size_t first = kernels::first_stream(accumulator.size());
    std::int16_t levels[2][kLevelBlock + kernels::kLevelPadding];
    bool possible = true;
    const auto add = [&](std::size_t at, std::span<const std::int16_t> block) {
      if (block.empty()) return;
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
        std::fill_n(levels[stream], length + kernels::kLevelPadding, std::int16_t{0});
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
  append_half_octaves(reference, kLeastRate, kMostRate, levels);
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
