#include "src/kernels/run_level.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <string_view>

#include "hwy/base.h"
#include "src/kernels/run_level_words.h"

namespace lgreco::kernels {
namespace {

constexpr int kLongest = 12;  // bits of a word
constexpr int kRunClassBits = 6, kLevelClassBits = 5;
constexpr unsigned kWords = kRunClasses * kLevelClasses + 1;
constexpr unsigned kEscape = kWords - 1;

// The length of each word as a hexadecimal digit, zero where there is none.
constexpr std::string_view kLengths[kLevelTables] = {
#include "src/kernels/run_level_codes.inc"
};

unsigned length_of(int table, unsigned symbol) {
  const char digit = kLengths[table][symbol];
  return static_cast<unsigned>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

struct Word {
  std::uint32_t bits;
  std::uint32_t length;  // zero: there is none
};

std::uint32_t reversed(std::uint32_t bits, unsigned length) {
  std::uint32_t result = 0;
  for (unsigned i = 0; i < length; ++i) result |= (bits >> i & 1) << (length - 1 - i);
  return result;
}

// Canonical: words of one length are consecutive numbers in the order of the symbols, the shorter
// ones first. The first bit of a word is its lowest.
std::array<Word, kWords> words_of(int table) {
  std::array<Word, kWords> words{};
  std::uint32_t next = 0;
  for (unsigned length = 1; length <= kLongest; ++length, next <<= 1) {
    for (unsigned symbol = 0; symbol < kWords; ++symbol) {
      if (length_of(table, symbol) == length) words[symbol] = {reversed(next++, length), length};
    }
  }
  return words;
}

}  // namespace

struct RunLevelWords {
  std::array<Word, kWords> words;
  QuickWords quick;

  void build(int table) {
    words = words_of(table);
    for (std::uint32_t run = 0; run < kQuickRuns; ++run) {
      for (std::uint32_t i = 0; i < kQuickRow; ++i) {
        const std::int32_t level = static_cast<std::int32_t>(i) - std::int32_t{kQuickLevels};
        quick[run * kQuickRow + i] = quick_of(run, level);
      }
    }
    quick[std::size_t{kQuickRuns} * kQuickRow] = kNoWord;
  }

 private:
  std::uint32_t quick_of(std::uint32_t run, std::int32_t level) const {
    if (level == 0) return kNoWord;
    const auto magnitude = static_cast<std::uint32_t>(level < 0 ? -level : level) - 1;
    const unsigned run_class = NumberClass::of(run), level_class = NumberClass::of(magnitude);
    const Word word = words[run_class * kLevelClasses + level_class];
    if (word.length == 0) return kNoWord;
    const auto runs = NumberClass::at(run_class), levels = NumberClass::at(level_class);
    std::uint32_t bits = word.bits, length = word.length;
    bits |= (run - runs.first) << length;
    length += static_cast<std::uint32_t>(runs.extra_bits);
    bits |= (magnitude - levels.first) << length;
    length += static_cast<std::uint32_t>(levels.extra_bits);
    bits |= (level < 0 ? 1u : 0u) << length;
    return bits << 8 | (length + 1);
  }
};

namespace {

constexpr int kPeek = 12;
constexpr std::uint32_t kQuickRunLimit = 1024;

// Several tokens at once.
constexpr int kSeveralPeek = 11;
constexpr std::uint32_t kSeveralNumbers = 4;
static_assert(kSeveralNumbers == kLevelPadding + 1);
constexpr int kLookups = 4;  // for which 56 bits are enough; the slower way gets new ones
static_assert(kLookups * kSeveralPeek <= 56);
// No lookup from so far before the end of a stream reads its last token.
constexpr std::size_t kEndMargin = kQuickRunLimit + 2 * kSeveralNumbers;

}  // namespace

struct RunLevelEntries {
  // What kSeveralPeek bits begin with: a run, then numbers as Stream::levels has them.
  std::uint64_t several_levels[1 << kSeveralPeek];
  std::uint32_t several[1 << kSeveralPeek];  // run (16), how many numbers (8), bits (8)
  // What kPeek bits begin with: level (16), run (10), number of bits (6).
  // Zero in either: take the slower way.
  std::uint32_t quick[1 << kPeek];
  std::uint16_t symbols[1 << kLongest];  // symbol (12), length of its word (4)

  void build(int table) {
    const auto words = words_of(table);
    for (unsigned symbol = 0; symbol < kWords; ++symbol) {
      const Word word = words[symbol];
      if (word.length == 0) continue;
      for (std::uint32_t i = word.bits; i < 1u << kLongest; i += 1u << word.length) {
        symbols[i] = static_cast<std::uint16_t>(symbol << 4 | word.length);
      }
    }
    for (std::uint32_t i = 0; i < 1u << kPeek; ++i) quick[i] = quick_of(i);
    for (std::uint32_t i = 0; i < 1u << kSeveralPeek; ++i) find_several(i);
  }

 private:
  void find_several(std::uint32_t index) {
    std::uint64_t levels = 0;
    std::uint32_t first_run = 0, numbers = 0, bits = 0;
    while (true) {
      const std::uint32_t entry = quick[index >> bits];
      const std::uint32_t run = entry >> 6 & (kQuickRunLimit - 1), length = entry & 63;
      if (entry == 0 || bits + length > kSeveralPeek) break;
      if (numbers > 0 && numbers + run >= kSeveralNumbers) break;
      numbers == 0 ? first_run = run : numbers += run;
      levels |= std::uint64_t{entry >> 16} << (16 * numbers++);
      bits += length;
    }
    several_levels[index] = levels;
    several[index] = first_run << 16 | numbers << 8 | bits;
  }

  std::uint32_t quick_of(std::uint32_t bits) const {
    const unsigned symbol = symbols[bits & ((1u << kLongest) - 1)] >> 4;
    const unsigned length = symbols[bits & ((1u << kLongest) - 1)] & 15;
    if (symbol == kEscape) return 0;
    const auto runs = NumberClass::at(symbol / kLevelClasses);
    const auto levels = NumberClass::at(symbol % kLevelClasses);
    const unsigned total = length + static_cast<unsigned>(runs.extra_bits + levels.extra_bits) + 1;
    if (total > kPeek) return 0;
    const std::uint32_t run = runs.first + (bits >> length & ((1u << runs.extra_bits) - 1));
    if (run >= kQuickRunLimit) return 0;
    const std::uint32_t magnitude =
        levels.first + (bits >> (length + static_cast<unsigned>(runs.extra_bits)) &
                        ((1u << levels.extra_bits) - 1));
    const auto level = static_cast<std::int32_t>(magnitude + 1);
    const bool negative = (bits >> (total - 1) & 1) != 0;
    return static_cast<std::uint32_t>(negative ? -level : level) << 16 | run << 6 | total;
  }
};

namespace {

// Built when it is first asked for.
template <typename Table>
const Table& table_at(int index) {
  static Table tables[kLevelTables];
  static std::once_flag built[kLevelTables];
  std::call_once(built[index], [&] { tables[index].build(index); });
  return tables[index];
}

}  // namespace

const RunLevelLengths& run_level_lengths(int table) {
  static const auto lengths = [] {
    std::array<RunLevelLengths, kLevelTables> all;
    for (int i = 0; i < kLevelTables; ++i) {
      all[i].escaped = static_cast<float>(length_of(i, kEscape) + kRunClassBits + kLevelClassBits);
      for (unsigned symbol = 0; symbol < kEscape; ++symbol) {
        const unsigned length = length_of(i, symbol);
        all[i].bits[symbol / kLevelClasses][symbol % kLevelClasses] =
            length == 0 ? all[i].escaped : static_cast<float>(length);
      }
    }
    return all;
  }();
  return lengths[static_cast<std::size_t>(table)];
}

double zero_share_of(int table) {
  constexpr double kShares[kZeroShares] = {0.1192, 0.1926, 0.2959, 0.4256, 0.5663, 0.6971,
                                           0.8022, 0.8772, 0.9264, 0.9569, 0.9751, 0.9857,
                                           0.9919, 0.9954, 0.9974, 0.9985};
  return kShares[table % kZeroShares];
}

RunLevelWriter::RunLevelWriter(int table, std::span<std::byte> out)
    : words_(table_at<RunLevelWords>(table)),
      stream_{.at = out.data()},
      limit_(out.data() + out.size()),
      begin_(out.data()) {}

// Leaves fewer than 8 bits.
template <bool kBackward>
void RunLevelWriter::flush() {
  for (; stream_.bits >= 8; stream_.bits -= 8, stream_.word >>= 8) {
    if (stream_.at == limit_) {
      ++excess_;
    } else {
      *(kBackward ? --stream_.at : stream_.at++) = static_cast<std::byte>(stream_.word);
    }
  }
}

template <bool kBackward>
void RunLevelWriter::put_token(std::uint32_t run, std::int32_t level) {
  const std::uint32_t quick = words_.quick[quick_index(run, level)];
  if (quick != kNoWord) {
    stream_.word |= std::uint64_t{quick >> 8} << stream_.bits;
    stream_.bits += quick & 0xFF;
    return flush<kBackward>();
  }
  const bool negative = level < 0;
  const auto magnitude = static_cast<std::uint32_t>(negative ? -level : level) - 1;
  const unsigned run_class = NumberClass::of(run), level_class = NumberClass::of(magnitude);
  const auto append = [&](std::uint64_t bits, int count) {
    stream_.word |= bits << stream_.bits;
    stream_.bits += static_cast<unsigned>(count);
  };
  const bool has_word = run_class < kRunClasses && level_class < kLevelClasses &&
                        words_.words[run_class * kLevelClasses + level_class].length > 0;
  const Word word = words_.words[has_word ? run_class * kLevelClasses + level_class : kEscape];
  append(word.bits, static_cast<int>(word.length));
  if (!has_word) {
    append(run_class, kRunClassBits);
    append(level_class, kLevelClassBits);
  }
  flush<kBackward>();
  const auto runs = NumberClass::at(run_class), levels = NumberClass::at(level_class);
  append(run - runs.first, runs.extra_bits);
  append(magnitude - levels.first, levels.extra_bits);
  append(negative ? 1 : 0, 1);
  flush<kBackward>();
}

template <bool kBackward>
void RunLevelWriter::put_tokens(std::span<const std::uint32_t> tokens) {
  WordGroups groups;
  const std::size_t end = word_groups(tokens.data(), tokens.size(), words_.quick, groups);
  const auto put = [&](std::size_t i) {
    const std::uint64_t place = before_ + (tokens[i] >> 16);
    put_token<kBackward>(static_cast<std::uint32_t>(place - next_),
                         static_cast<std::int16_t>(tokens[i]));
    next_ = place + 1;
  };
  put(0);
  for (std::size_t group = 0; group < end; ++group) {
    group = put_groups(groups, group, end, kBackward, room(), stream_);
    next_ = before_ + (tokens[kGroup * group] >> 16) + 1;
    if (group == end) break;
    for (std::size_t i = 1; i <= kGroup; ++i) put(kGroup * group + i);
  }
  for (std::size_t i = kGroup * end + 1; i < tokens.size(); ++i) put(i);
}

void RunLevelWriter::put(std::span<const std::uint32_t> tokens, std::size_t length) {
  empty_ = false;
  if (!tokens.empty()) backward_ ? put_tokens<true>(tokens) : put_tokens<false>(tokens);
  before_ += length;
}

void RunLevelWriter::finish_stream() {
  const std::uint32_t end = level_token(0, 1);
  if (!empty_) put({&end, 1}, 0);
  if (stream_.bits > 0) {
    stream_.bits = 8;
    backward_ ? flush<true>() : flush<false>();
  }
  used_ += static_cast<std::size_t>(backward_ ? begin_ - stream_.at : stream_.at - begin_);
  if (backward_) {
    std::fill(limit_, stream_.at, std::byte{0});
    return;
  }
  begin_ = limit_;  // of the second stream
  limit_ = stream_.at;
  stream_ = {.at = begin_};
  backward_ = empty_ = true;
  before_ = next_ = 0;
}

template <bool kBackward>
HWY_INLINE std::uint64_t RunLevelReader::load(std::size_t offset) const {
  std::uint64_t loaded;
  if constexpr (kBackward) {
    std::memcpy(&loaded, in_.data() + in_.size() - offset - 8, 8);
    return byte_swapped(loaded);
  }
  std::memcpy(&loaded, in_.data() + offset, 8);
  return loaded;
}

// Zeros where there are no more bytes.
template <bool kBackward>
HWY_NOINLINE std::uint64_t RunLevelReader::load_end(std::size_t offset) const {
  std::uint64_t loaded = 0;
  for (std::size_t i = 0; i < 8 && offset + i < in_.size(); ++i) {
    const std::size_t at = offset + i;
    const std::byte byte = in_[kBackward ? in_.size() - 1 - at : at];
    loaded |= std::uint64_t{std::to_integer<std::uint8_t>(byte)} << (8 * i);
  }
  return loaded;
}

// At least 56 bits. kInside: 8 bytes from the stream's offset on exist.
template <bool kBackward, bool kInside>
HWY_INLINE void RunLevelReader::refill(Stream& stream) const {
  const bool inside = kInside || stream.offset + 8 <= in_.size();
  const std::uint64_t loaded =
      inside ? load<kBackward>(stream.offset) : load_end<kBackward>(stream.offset);
  stream.word |= loaded << stream.bits;
  stream.offset += static_cast<std::size_t>(63 - stream.bits) / 8;
  stream.bits |= 56;
}

HWY_INLINE void RunLevelReader::store(const Stream& stream, std::int16_t* block) {
  std::memcpy(block + stream.next, &stream.levels, sizeof stream.levels);
}

// REQUIRES: kSeveralPeek bits.
template <bool kBackward>
HWY_INLINE void RunLevelReader::advance(Stream& stream) const {
  const std::size_t index = stream.word & ((1u << kSeveralPeek) - 1);
  const std::uint32_t entry = entries_.several[index];
  if (HWY_UNLIKELY(entry == 0)) {
    Stream slow = stream;  // its address would keep the other one in memory
    advance_by_one<kBackward>(slow);
    refill<kBackward, false>(slow);  // of bytes that no encoder wrote it may take most of them
    stream = slow;
    return;
  }
  stream.word >>= entry & 63;
  stream.bits -= static_cast<int>(entry & 63);
  stream.next += stream.numbers + (entry >> 16);
  stream.numbers = entry >> 8 & 7;
  stream.levels = entries_.several_levels[index];
}

template <bool kBackward>
HWY_NOINLINE void RunLevelReader::advance_by_one(Stream& stream) const {
  refill<kBackward, false>(stream);
  const std::uint32_t entry = entries_.quick[stream.word & ((1u << kPeek) - 1)];
  if (entry == 0) {
    advance_slowly<kBackward>(stream);
  } else {
    stream.word >>= entry & 63;
    stream.bits -= static_cast<int>(entry & 63);
    stream.next += stream.numbers + (entry >> 6 & (kQuickRunLimit - 1));
    stream.levels = entry >> 16;
  }
  stream.numbers = 1;
}

template <bool kBackward>
HWY_NOINLINE void RunLevelReader::advance_slowly(Stream& stream) const {
  const auto take = [&](int count) {
    const auto bits = static_cast<std::uint32_t>(stream.word & ((std::uint64_t{1} << count) - 1));
    stream.word >>= count;
    stream.bits -= count;
    return bits;
  };
  const unsigned entry = entries_.symbols[stream.word & ((1u << kLongest) - 1)];
  const unsigned symbol = entry >> 4;
  take(static_cast<int>(entry & 15));
  unsigned run_class = symbol / kLevelClasses, level_class = symbol % kLevelClasses;
  if (symbol == kEscape) {
    run_class = take(kRunClassBits);
    level_class = take(kLevelClassBits);
  }
  refill<kBackward, false>(stream);
  const auto runs = NumberClass::at(run_class), levels = NumberClass::at(level_class);
  const std::uint32_t run = runs.first + take(runs.extra_bits);
  const std::uint32_t magnitude = levels.first + take(levels.extra_bits);
  const bool negative = take(1) != 0;
  stream.impossible |= magnitude >= static_cast<std::uint32_t>(kLargestLevel);
  stream.next += std::uint64_t{run} + stream.numbers;
  const auto level = static_cast<std::int32_t>(magnitude & 0x7FFF) + 1;
  stream.levels = static_cast<std::uint16_t>(negative ? -level : level);
}

RunLevelReader::RunLevelReader(int table, std::span<const std::byte> in, std::size_t count)
    : entries_(table_at<RunLevelEntries>(table)), in_(in) {
  first_.left = first_stream(count);
  second_.left = count - first_.left;
  first_.numbers = second_.numbers = 0;
  if (first_.left > 0) advance_by_one<false>(first_);
  if (second_.left > 0) advance_by_one<true>(second_);
}

// Token by token, and in any case.
template <bool kBackward>
void RunLevelReader::finish_block(Stream& stream, std::span<std::int16_t> block) const {
  for (; stream.next < block.size(); advance_by_one<kBackward>(stream)) {
    store(stream, block.data());
  }
  stream.next -= block.size();
  stream.left -= block.size();
  std::memcpy(&stream.beyond, block.data() + block.size(), kLevelPadding * sizeof block[0]);
}

void RunLevelReader::read(std::span<std::int16_t> first, std::span<std::int16_t> second) {
  Stream a = first_, b = second_;
  std::memcpy(first.data(), &a.beyond, kLevelPadding * sizeof first[0]);
  std::memcpy(second.data(), &b.beyond, kLevelPadding * sizeof second[0]);
  const std::size_t inside = in_.size() < 8 ? 0 : in_.size() - 7;  // where offsets are
  const auto many = [](const Stream& stream, std::size_t length) {
    return std::min(length, stream.left > kEndMargin ? stream.left - kEndMargin : 0);
  };
  const std::size_t a_end = many(a, first.size()), b_end = many(b, second.size());
  while (a.next < a_end && b.next < b_end && a.offset < inside && b.offset < inside) {
    refill<false, true>(a);
    refill<true, true>(b);
    for (int i = 0; i < kLookups && a.next < a_end && b.next < b_end; ++i) {
      store(a, first.data());
      store(b, second.data());
      advance<false>(a);
      advance<true>(b);
    }
  }
  finish_block<false>(a, first);
  finish_block<true>(b, second);
  first_ = a;
  second_ = b;
}

bool RunLevelReader::is_well_formed() const {
  const auto is_end = [](const Stream& s) { return s.next == 0 && s.levels == 1 && !s.impossible; };
  if (!is_end(first_) || !is_end(second_)) return false;
  const auto bits_of = [](const Stream& s) {
    return 8 * s.offset - static_cast<std::size_t>(s.bits);
  };
  const std::size_t first = bits_of(first_), second = bits_of(second_);
  const std::size_t first_bytes = (first + 7) / 8, second_bytes = (second + 7) / 8;
  if (first_bytes + second_bytes > in_.size()) return false;
  const auto spare = [](std::byte byte, std::size_t bits) {
    return bits % 8 == 0 ? 0u : std::to_integer<unsigned>(byte) >> (bits % 8);
  };
  if (first > 0 && spare(in_[first_bytes - 1], first) != 0) return false;
  if (second > 0 && spare(in_[in_.size() - second_bytes], second) != 0) return false;
  const auto between = in_.subspan(first_bytes, in_.size() - first_bytes - second_bytes);
  return std::all_of(between.begin(), between.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace lgreco::kernels
