// Ascending positions in little space (Elias 1974, Fano 1971): k different positions below n take
// at most k * (2 + log2(n / k)) bits, a number that depends on n and k alone.
//
// With l = floor(log2(n / k)), 0 <= l:
//   low part:  k fields of l bits, the low bits of each position; ceil(k * l / 8) bytes
//   high part: k + floor((n - 1) / 2^l) bits; for position p_i (i from 0) the bit
//              floor(p_i / 2^l) + i is one, all others are zero; rounded up to bytes
// Bit b of a part is bit b mod 8 of its byte floor(b / 8). Spare bits of last bytes are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lgreco::kernels {

/// The sizes for one n and k. REQUIRES: 0 < k <= n < 2^56.
struct EliasFano {
  std::uint64_t n;
  std::uint64_t k;
  int low_bits;
  std::uint64_t low_mask;  // so many ones

  EliasFano(std::uint64_t n, std::uint64_t k);

  std::uint64_t low_bytes() const;
  std::uint64_t high_bits() const { return k + ((n - 1) >> low_bits); }
  std::uint64_t high_bytes() const { return (high_bits() + 7) / 8; }
  std::uint64_t bytes() const { return low_bytes() + high_bytes(); }
};

/// Writes positions one by one into `code.bytes()` bytes at `out`, which starts anywhere.
class EliasFanoWriter {
 public:
  EliasFanoWriter(const EliasFano& code, std::byte* out);

  /// Appends first + offset of each. REQUIRES: greater than the position before and less than n; k
  /// of them in all.
  void append(std::uint64_t first, std::span<const std::uint32_t> offsets);

 private:
  void append_one(std::uint64_t position);

  EliasFano code_;
  std::byte* low_;
  std::byte* high_;
  std::uint64_t appended_ = 0;
  std::uint64_t word_ = 0;  // low bits that are not written yet
  int word_bits_ = 0;
};

/// Reads `code.bytes()` bytes of unknown origin at `in`, which starts anywhere.
class EliasFanoReader {
 public:
  EliasFanoReader(const EliasFano& code, const std::byte* in);

  /// The high part has exactly k ones, and all spare bits are zero.
  bool is_well_formed() const;

  /// The next position; false when it is not less than n or not greater than the one before.
  /// REQUIRES: is_well_formed(); called k times at most.
  bool next(std::uint64_t& position);

 private:
  std::uint64_t next_low();
  std::uint64_t next_high();

  EliasFano code_;
  const std::byte* low_;
  const std::byte* high_;
  std::uint64_t read_ = 0;
  std::uint64_t least_ = 0;  // the least position that may follow
  std::uint64_t word_ = 0;   // ones of the high part that are not read yet
  std::uint64_t word_at_ = 0;
};

}  // namespace lgreco::kernels
