#include "src/kernels/elias_fano.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>
#include <vector>

namespace lgreco::kernels {
namespace {

using Bytes = std::vector<std::byte>;

Bytes write(const EliasFano& code, const std::vector<std::uint64_t>& positions) {
  Bytes bytes(code.bytes(), std::byte{0xFF});
  EliasFanoWriter writer(code, bytes.data());
  for (std::uint64_t position : positions) {
    const auto offset = static_cast<std::uint32_t>(position % 3);
    writer.append(position - offset, std::span(&offset, 1));
  }
  return bytes;
}

bool read(const EliasFano& code, const Bytes& bytes, std::vector<std::uint64_t>& positions) {
  EliasFanoReader reader(code, bytes.data());
  positions.assign(code.k, 0);
  if (!reader.is_well_formed()) return false;
  for (std::uint64_t& position : positions) {
    if (!reader.next(position)) return false;
  }
  return true;
}

std::vector<std::uint64_t> positions_below(std::uint64_t n, std::uint64_t k, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::set<std::uint64_t> positions;
  while (positions.size() < k) positions.insert(generator() % n);
  return {positions.begin(), positions.end()};
}

TEST(EliasFano, RoundTripsAnyPositions) {
  for (std::uint64_t n : {1, 2, 3, 7, 8, 9, 63, 64, 65, 100, 1000, 4096, 9999}) {
    for (std::uint64_t k : {std::uint64_t{1}, n / 100, n / 7, n / 2, n - 1, n}) {
      if (k == 0 || k > n) continue;
      const EliasFano code(n, k);
      const auto positions = positions_below(n, k, static_cast<unsigned>(n + k));
      std::vector<std::uint64_t> back;
      ASSERT_TRUE(read(code, write(code, positions), back)) << k << " of " << n;
      ASSERT_EQ(back, positions) << k << " of " << n;
    }
  }
}

TEST(EliasFano, HasNoLimitAt32Bits) {
  for (std::uint64_t n : {(std::uint64_t{1} << 33) + 5, std::uint64_t{1} << 40}) {
    for (std::uint64_t k : {1, 2, 3, 100}) {
      const EliasFano code(n, k);
      auto positions = positions_below(n, k, 3);
      positions.back() = n - 1;
      std::vector<std::uint64_t> back;
      ASSERT_TRUE(read(code, write(code, positions), back));
      ASSERT_EQ(back, positions);
    }
  }
}

TEST(EliasFano, TakesTwoBitsMoreThanTheLogarithm) {
  std::mt19937_64 generator(1);
  for (int trial = 0; trial < 100'000; ++trial) {
    const std::uint64_t n = 1 + (generator() >> (9 + generator() % 54));
    const std::uint64_t k = 1 + generator() % n;
    const EliasFano code(n, k);
    const double quotient = static_cast<double>(n) / static_cast<double>(k);
    const double bits = static_cast<double>(k) * (2 + std::log2(quotient));
    // Either part may waste seven bits of a byte.
    ASSERT_LE(8.0 * static_cast<double>(code.bytes()), bits * (1 + 1e-12) + 14) << n << ", " << k;
    ASSERT_LE(k << code.low_bits, n);
    ASSERT_GT(k << (code.low_bits + 1), n);
  }
}

// Whatever is read was written: one string of bytes per set of positions, and no other accepted.
TEST(EliasFano, AcceptsOnlyWhatTheWriterWrites) {
  using Pair = std::pair<std::uint64_t, std::uint64_t>;
  for (const auto& [n, k] :
       {Pair{1, 1}, {8, 1}, {8, 2}, {8, 3}, {8, 5}, {8, 8}, {9, 4}, {100, 1}}) {
    const EliasFano code(n, k);
    ASSERT_LE(code.bytes(), 2u);
    std::size_t accepted = 0;
    for (std::uint32_t bits = 0; bits < 1u << (8 * code.bytes()); ++bits) {
      Bytes bytes(code.bytes());
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(bits >> (8 * i) & 0xFF);
      std::vector<std::uint64_t> positions;
      if (!read(code, bytes, positions)) continue;
      ++accepted;
      ASSERT_EQ(write(code, positions), bytes);
    }
    std::size_t choices = 1;  // n over k
    for (std::uint64_t i = 0; i < k; ++i) choices = choices * (n - i) / (i + 1);
    EXPECT_EQ(accepted, choices) << k << " of " << n;
  }
}

}  // namespace
}  // namespace lgreco::kernels
