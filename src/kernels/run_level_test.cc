// What is written is read; what is not is refused; and the tables are codes.

#include "src/kernels/run_level.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace lgreco::kernels {
namespace {

std::vector<std::int16_t> sparse_levels(std::size_t count, double share, double spread,
                                        unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform;
  std::vector<std::int16_t> levels(count, 0);
  for (auto& level : levels) {
    if (uniform(generator) >= share) continue;
    const double magnitude = 1 + std::floor(std::pow(uniform(generator), -spread) - 1);
    level = static_cast<std::int16_t>(std::min(magnitude, double{kLargestLevel}));
    if (generator() % 2 == 0) level = static_cast<std::int16_t>(-level);
  }
  return levels;
}

// Returns the bytes used and those that were too many.
std::pair<std::size_t, std::size_t> write(const std::vector<std::int16_t>& levels, int table,
                                          std::span<std::byte> out) {
  RunLevelWriter writer(table, out);
  const std::size_t first = first_stream(levels.size());
  std::vector<std::uint32_t> tokens;
  for (std::size_t at = 0; at < levels.size(); at += kLevelBlock) {
    if (at == first) writer.finish_stream();
    const std::size_t length = std::min(kLevelBlock, levels.size() - at);
    tokens.clear();
    for (std::size_t i = 0; i < length; ++i) {
      if (levels[at + i] == 0) continue;
      tokens.push_back(level_token(static_cast<std::uint32_t>(i), levels[at + i]));
    }
    writer.put(tokens, length);
  }
  if (first == levels.size()) writer.finish_stream();
  writer.finish_stream();
  return {writer.used(), writer.excess()};
}

bool read(std::span<const std::byte> in, int table, std::vector<std::int16_t>& levels) {
  RunLevelReader reader(table, in, levels.size());
  const std::size_t first = first_stream(levels.size());
  for (std::size_t at = 0; at < first; at += kLevelBlock) {
    std::vector<std::int16_t> blocks[2];
    const auto block = [&](int stream, std::size_t begin, std::size_t end) {
      const std::size_t length = begin < end ? std::min(kLevelBlock, end - begin) : 0;
      blocks[stream].assign(length + kLevelPadding, 0);
      return std::span(blocks[stream]).first(length);
    };
    const auto first_block = block(0, at, first);
    const auto second_block = block(1, first + at, levels.size());
    reader.read(first_block, second_block);
    std::copy(first_block.begin(), first_block.end(), levels.begin() + at);
    std::copy(second_block.begin(), second_block.end(), levels.begin() + first + at);
  }
  return reader.is_well_formed();
}

TEST(RunLevel, ClassesAreTheNumbersInOrder) {
  std::uint32_t next = 0;
  for (unsigned index = 0; index < 60; ++index) {
    const auto c = NumberClass::at(index);
    EXPECT_EQ(c.first, next);
    EXPECT_EQ(NumberClass::of(c.first), index);
    next += 1u << c.extra_bits;
    EXPECT_EQ(NumberClass::of(next - 1), index);
  }
}

TEST(RunLevel, WordsAreACompleteCode) {
  for (int table = 0; table < kLevelTables; ++table) {
    const auto& lengths = run_level_lengths(table);
    double kraft = std::exp2(-(static_cast<double>(lengths.escaped) - 11));
    for (const auto& row : lengths.bits) {
      for (const float bits : row) kraft += bits == lengths.escaped ? 0 : std::exp2(-bits);
    }
    EXPECT_EQ(kraft, 1.0) << table;
  }
}

TEST(RunLevel, ReadsWhatIsWritten) {
  for (std::size_t count : {1u, 2u, 100u, 2047u, 2048u, 2049u, 4096u, 4097u, 30'000u}) {
    for (double share : {0.0, 0.001, 0.05, 0.5, 1.0}) {
      for (double spread : {0.01, 1.0, 3.0}) {
        for (int table = 0; table < kLevelTables; table += 5) {
          const auto levels = sparse_levels(count, share, spread, static_cast<unsigned>(table));
          std::vector<std::byte> room(8 * count + 64, std::byte{0xFF});
          const auto [used, excess] = write(levels, table, room);
          ASSERT_EQ(excess, 0u);
          // Exactly what it says, and with zeros between the streams.
          for (std::size_t more : {0u, 1u, 9u}) {
            std::vector<std::byte> exact(used + more, std::byte{0xFF});
            ASSERT_EQ(write(levels, table, exact), std::pair(used, std::size_t{0}));
            std::vector<std::int16_t> again(count, 0);
            ASSERT_TRUE(read(exact, table, again)) << count << " " << share << " " << table;
            ASSERT_EQ(again, levels);
          }
        }
      }
    }
  }
}

TEST(RunLevel, SaysHowManyBytesAreMissing) {
  const auto levels = sparse_levels(10'000, 0.3, 0.7, 1);
  std::vector<std::byte> room(40'000);
  const std::size_t needed = write(levels, 20, room).first;
  for (std::size_t size : {0u, 1u, 7u, 8u, 100u, 3000u}) {
    std::vector<std::byte> small(size);
    const auto [used, excess] = write(levels, 20, small);
    EXPECT_EQ(used + excess, needed) << size;
  }
}

TEST(RunLevel, RefusesBitsBetweenTheStreams) {
  const auto levels = sparse_levels(5000, 0.1, 0.5, 2);
  std::vector<std::byte> room(20'000);
  const std::size_t used = write(levels, 7, room).first;
  room.resize(used + 3);
  ASSERT_EQ(write(levels, 7, room).second, 0u);
  std::size_t refused = 0;
  for (std::size_t byte = 0; byte < room.size(); ++byte) {
    auto damaged = room;
    damaged[byte] ^= std::byte{0x80};
    std::vector<std::int16_t> again(levels.size(), 0);
    const bool same = read(damaged, 7, again) && again == levels;
    EXPECT_FALSE(same) << byte;
    refused += read(damaged, 7, again) ? 0 : 1;
  }
  EXPECT_GT(refused, room.size() / 2);
}

}  // namespace
}  // namespace lgreco::kernels
