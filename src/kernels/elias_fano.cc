#include "src/kernels/elias_fano.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/kernels/spare_bits.h"

namespace lgreco::kernels {
namespace {

// Up to eight bytes as one number, the first byte lowest.
std::uint64_t load_word(const std::byte* at, std::uint64_t bytes) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, std::min<std::uint64_t>(bytes, sizeof word));
  return word;
}

}  // namespace

EliasFano::EliasFano(std::uint64_t n, std::uint64_t k)
    : n(n),
      k(k),
      low_bits(static_cast<int>(std::bit_width(n / k)) - 1),
      low_mask(std::bit_floor(n / k) - 1) {}

std::uint64_t EliasFano::low_bytes() const {
  return (k * static_cast<std::uint64_t>(low_bits) + 7) / 8;
}

EliasFanoWriter::EliasFanoWriter(const EliasFano& code, std::byte* out)
    : code_(code), low_(out), high_(out + code.low_bytes()) {
  std::memset(high_, 0, code.high_bytes());
}

// Whole words of low bits at a time; the last position writes what is left.
inline void EliasFanoWriter::append_one(std::uint64_t position) {
  const std::uint64_t bit = (position >> code_.low_bits) + appended_;
  high_[bit / 8] |= std::byte{1} << (bit % 8);
  ++appended_;
  if (code_.low_bits == 0) return;
  const std::uint64_t bits = position & code_.low_mask;
  word_ |= bits << word_bits_;
  word_bits_ += code_.low_bits;
  if (word_bits_ >= 64) {
    std::memcpy(low_, &word_, sizeof word_);
    low_ += sizeof word_;
    word_bits_ -= 64;
    word_ = word_bits_ == 0 ? 0 : bits >> (code_.low_bits - word_bits_);
  }
  if (appended_ == code_.k) std::memcpy(low_, &word_, static_cast<std::size_t>(word_bits_ + 7) / 8);
}

void EliasFanoWriter::append(std::uint64_t first, std::span<const std::uint32_t> offsets) {
  EliasFanoWriter here = *this;  // stays in registers, where what is written cannot be
  for (const std::uint32_t offset : offsets) here.append_one(first + offset);
  *this = here;
}

EliasFanoReader::EliasFanoReader(const EliasFano& code, const std::byte* in)
    : code_(code),
      low_(in),
      high_(in + code.low_bytes()),
      word_(load_word(high_, code.high_bytes())) {}

bool EliasFanoReader::is_well_formed() const {
  std::uint64_t ones = 0;
  for (std::uint64_t at = 0; at < code_.high_bytes(); at += 8) {
    ones +=
        static_cast<std::uint64_t>(std::popcount(load_word(high_ + at, code_.high_bytes() - at)));
  }
  return ones == code_.k && spare_bits_are_zero(high_, code_.high_bits()) &&
         spare_bits_are_zero(low_, code_.k * static_cast<std::uint64_t>(code_.low_bits));
}

bool EliasFanoReader::next(std::uint64_t& position) {
  position = (next_high() << code_.low_bits) | next_low();
  ++read_;
  const bool possible = position >= least_ && position < code_.n;
  least_ = position + 1;
  return possible;
}

std::uint64_t EliasFanoReader::next_low() {
  if (code_.low_bits == 0) return 0;
  const std::uint64_t bit = read_ * static_cast<std::uint64_t>(code_.low_bits);
  // A field has at most 56 bits, so with its offset in the first byte it fits a word.
  const std::uint64_t word = load_word(low_ + bit / 8, code_.low_bytes() - bit / 8);
  return (word >> (bit % 8)) & code_.low_mask;
}

std::uint64_t EliasFanoReader::next_high() {
  while (word_ == 0) {
    word_at_ += 8;
    word_ = load_word(high_ + word_at_, code_.high_bytes() - word_at_);
  }
  const auto bit = static_cast<std::uint64_t>(std::countr_zero(word_));
  word_ &= word_ - 1;
  return word_at_ * 8 + bit - read_;
}

}  // namespace lgreco::kernels
