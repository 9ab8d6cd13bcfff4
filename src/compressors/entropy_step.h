// The step of `entropy`: as fine as the planned bytes allow.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "src/kernels/dead_zone.h"
#include "src/kernels/run_level.h"

namespace lgreco {

/// The header of a payload, as 32 bits from the lowest on: `other` (4), `first` (4), raw bits (3),
/// table (6), the upper half of the step, an fp32 above zero (15). All zero: so are the values.
struct EntropyHeader {
  std::uint32_t bits = 0;

  static EntropyHeader of(std::uint32_t step_bits, int table, int raw_bits, unsigned first,
                          unsigned other) {
    return {step_bits << 17 | static_cast<std::uint32_t>(table) << 11 |
            static_cast<std::uint32_t>(raw_bits) << 8 | first << 4 | other};
  }
  std::uint32_t step_bits() const { return bits >> 17; }
  int table() const { return static_cast<int>(bits >> 11 & 63); }
  int raw_bits() const { return static_cast<int>(bits >> 8 & 7); }
  bool is_valid() const;
  /// The table of the same shape for more zeros, if there is one.
  bool expect_more_zeros() {
    if (table() % kernels::kZeroShares == kernels::kZeroShares - 1) return false;
    bits += 1u << 11;
    return true;
  }
  /// `rounding` is the encoder's, and means nothing to a decoder. REQUIRES: is_valid().
  kernels::DeadZone zone(float rounding = 0) const;
};

/// Bytes behind the header. One level always fits.
inline std::size_t entropy_code_bytes(double rate, std::size_t count) {
  constexpr double kLeast = 6;
  return static_cast<std::size_t>(
      std::max(kLeast, std::ceil(rate * static_cast<double>(count) / 8)));
}

struct EntropyChoice {
  EntropyHeader header;  // zero: so are all values
  float rounding = 0;
  /// That the code is expected to take.
  double bits = 0;

  kernels::DeadZone zone() const { return header.zone(rounding); }
};

/// Magnitudes of a piece, and how many bits they take with any step.
class EntropyStep {
 public:
  /// `histogram` has kMagnitudeBins counts, of finite values: of all `count` ones, or of a sample.
  EntropyStep(std::span<const std::uint32_t> histogram, std::size_t count);
  EntropyStep(std::span<const std::uint32_t> histogram, std::size_t sampled, std::size_t count);

  /// Steps are the upper halves of fp32. No magnitude exceeds kLargestLevel from the first one on;
  /// with the last one all values are zeros.
  std::uint32_t finest() const { return finest_; }
  std::uint32_t coarsest() const { return coarsest_; }

  /// The finest step whose code is expected to take at most `capacity` bits, raw ones included.
  std::uint32_t choose(double rate, double capacity) const;
  /// What the code may be expected to take: less than it has, by the ends of the streams and what
  /// the expectation, and the sample, may be wrong by.
  double capacity_of(double rate) const;

  /// The best code with this step. REQUIRES: it is between the finest and the coarsest one.
  EntropyChoice at(double rate, std::uint32_t step_bits) const;
  /// The best code with the step of choose(), and as narrow a zone around zero as may be: where a
  /// little finer step would send much more.
  EntropyChoice filling(double rate, double capacity) const;
  /// The same as at() without raw bits.
  EntropyChoice at_without_raw_bits(double rate, std::uint32_t step_bits) const;

  /// Many values, or many of those that are just sent with this step, are so much alike that what
  /// is expected of a step may be wrong.
  bool has_ties() const { return has_ties_; }
  bool has_ties_at(const EntropyChoice& choice) const;

  /// What a choice loses: the sum of the squares, right within a percent.
  double loss_of(const EntropyChoice& choice) const;

 private:
  static constexpr std::size_t kOctaves = 18;  // below the largest value that can matter
  static constexpr std::size_t kBins = 32 * kOctaves;

  struct Cost {
    double bits = 0;
    int table = 0;
    int raw_bits = 0;
  };
  Cost cost_of(float step, double rate) const;
  Cost cost_with(float step, float rounding, int raw_bits) const;
  double levels_from(float step, float rounding, int raw_bits, std::uint32_t magnitude) const;
  double above(double magnitude) const;
  float rounding_for(double rate) const;
  EntropyHeader header_of(std::uint32_t step_bits, float rounding, const Cost& cost) const;

  double count_;
  double scale_;  // values for each one of the sample
  std::uint32_t finest_ = 0, coarsest_ = 0;
  bool has_ties_ = false;
  std::size_t top_ = 0;           // the largest bin that is not empty
  std::size_t lowest_ = 0;        // the bin of above_[0]
  double above_[kBins + 2] = {};  // values in this bin or a higher one
  double mean_over_root_ = 0;     // of the magnitudes: about 0.8 for a normal law, less for others
};

}  // namespace lgreco
