// Whole numbers, most of them zero, in few bits: a prefix code word says how many zeros come before
// the next level and how large that is, from one of a few fixed tables (run_level_codes.inc).
//
// Runs and magnitudes less one fall into classes 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15, 16-23, ...: the
// word is of a pair of classes, or of the escape, which 6 bits for the class of the run and 5 for
// that of the level follow. Then come the place of the run in its class, that of the magnitude, and
// the sign. Bits are taken from the lowest one of each byte on. The numbers are cut in two streams,
// so that a reader has something to do while it waits for the other one: the second runs backward
// from the last byte. Each ends with a level of 1 just behind its last number; a stream of no
// numbers is empty.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace lgreco::kernels {

struct RunLevelWords;    // a table, as the writer needs it
struct RunLevelEntries;  // as the reader needs it

/// No stream's end takes more bytes.
constexpr std::size_t kMostEndBytes = 8;

/// Numbers are written and read in blocks.
constexpr std::size_t kLevelBlock = 2048;
constexpr int kLargestLevel = 32767;

/// Room behind the numbers of a block that a reader may write to.
constexpr std::size_t kLevelPadding = 3;

/// How many of `count` numbers are in the first stream.
constexpr std::size_t first_stream(std::size_t count) {
  const std::size_t blocks = (count + kLevelBlock - 1) / kLevelBlock;
  const std::size_t half = (blocks + 1) / 2 * kLevelBlock;
  return half < count ? half : count;
}

/// A level that is not zero and its place in its block, as (place << 16 | level).
constexpr std::uint32_t level_token(std::uint32_t place, std::int32_t level) {
  return place << 16 | (static_cast<std::uint32_t>(level) & 0xFFFFu);
}

/// Half an octave of whole numbers.
struct NumberClass {
  std::uint32_t first;
  int extra_bits;

  static constexpr unsigned of(std::uint32_t number) {
    if (number < 2) return number;
    const auto octave = static_cast<unsigned>(std::bit_width(number) - 1);
    return 2 * octave + ((number >> (octave - 1)) & 1);
  }
  /// REQUIRES: index < 64.
  static constexpr NumberClass at(unsigned index) {
    if (index < 2) return {index, 0};
    const int extra = static_cast<int>(index / 2) - 1;
    return {(2u + index % 2) << extra, extra};
  }
};

/// The tables are for `kLevelShapes` laws, from light to heavy tails, and for each of them for
/// `kZeroShares` shares of zeros, from few to many.
constexpr int kLevelShapes = 4, kZeroShares = 16, kLevelTables = kLevelShapes * kZeroShares;
constexpr unsigned kRunClasses = 26, kLevelClasses = 22;  // that have words of their own

/// The lengths of the words.
struct RunLevelLengths {
  /// Of a pair of classes, with what an escape takes where there is no word.
  std::array<std::array<float, kLevelClasses>, kRunClasses> bits;
  /// Of any other pair.
  float escaped;
};
const RunLevelLengths& run_level_lengths(int table);
/// The share of zeros for which a table was made.
double zero_share_of(int table);

/// Where bits are written. A copy stays in registers, where what is written cannot be.
struct BitStream {
  std::byte* at;           // where the next byte goes
  std::uint64_t word = 0;  // bits that are not written yet
  unsigned bits = 0;
};

/// A copy goes on from the same place in the same bytes.
class RunLevelWriter {
 public:
  RunLevelWriter(int table, std::span<std::byte> out);

  /// The levels of the next block, in ascending order of their places.
  void put(std::span<const std::uint32_t> tokens, std::size_t length);
  /// Ends the stream: after the first, the second begins; after the second, what is left of the
  /// bytes becomes zero.
  void finish_stream();

  /// Bytes that neither stream has taken yet.
  std::size_t room() const {
    return static_cast<std::size_t>(backward_ ? stream_.at - limit_ : limit_ - stream_.at);
  }
  /// After both streams: bytes that they take, and those for which there was no room. What is
  /// written is of no use then.
  std::size_t used() const { return used_; }
  std::size_t excess() const { return excess_; }

 private:
  template <bool kBackward>
  void put_tokens(std::span<const std::uint32_t> tokens);
  template <bool kBackward>
  void put_token(std::uint32_t run, std::int32_t level);
  template <bool kBackward>
  void flush();

  const RunLevelWords& words_;
  BitStream stream_;
  std::byte* limit_;  // where no byte may go
  std::byte* begin_;
  std::size_t used_ = 0;
  std::size_t excess_ = 0;
  bool backward_ = false;
  bool empty_ = true;
  std::uint64_t before_ = 0;  // numbers of this stream in earlier blocks
  std::uint64_t next_ = 0;    // the place behind the last level
};

/// Reads bytes of any origin.
class RunLevelReader {
 public:
  RunLevelReader(int table, std::span<const std::byte> in, std::size_t count);

  /// The next blocks of both streams, either of which may have no numbers left. REQUIRES: `first`
  /// and `second` are zeros, as are kLevelPadding numbers behind each.
  void read(std::span<std::int16_t> first, std::span<std::int16_t> second);
  /// After all blocks: both streams end where they should, and there are only zeros between.
  bool is_well_formed() const;

 private:
  struct Stream {
    std::uint64_t word = 0;
    int bits = 0;            // of `word`
    std::size_t offset = 0;  // bytes taken into `word`
    std::size_t left = 0;    // numbers from this block on
    // What is read already: up to four numbers, the first and last of which are not zero, and the
    // place of the first one, from this block on.
    std::uint64_t next = 0;
    std::uint64_t levels = 1;  // 16 bits each, the first one lowest
    std::uint32_t numbers = 1;
    bool impossible = false;
    std::uint64_t beyond = 0;  // numbers of the next block that are stored already, as `levels`
  };
  template <bool kBackward>
  std::uint64_t load(std::size_t offset) const;
  template <bool kBackward>
  std::uint64_t load_end(std::size_t offset) const;
  static void store(const Stream& stream, std::int16_t* block);
  template <bool kBackward, bool kInside>
  void refill(Stream& stream) const;
  template <bool kBackward>
  void advance(Stream& stream) const;
  template <bool kBackward>
  void advance_by_one(Stream& stream) const;
  template <bool kBackward>
  void advance_slowly(Stream& stream) const;
  template <bool kBackward>
  void finish_block(Stream& stream, std::span<std::int16_t> block) const;

  const RunLevelEntries& entries_;
  std::span<const std::byte> in_;
  Stream first_, second_;
};

}  // namespace lgreco::kernels
