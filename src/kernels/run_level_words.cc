#include "src/kernels/run_level_words.h"

#include <cstring>

#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/run_level_words.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Pairs(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
           std::uint64_t* pairs) {
  std::size_t i = 1;
#if HWY_TARGET != HWY_SCALAR  // which has no wider lanes
  const hn::ScalableTag<std::uint32_t> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RepartitionToWide<decltype(d)> wide;
  const auto one = hn::Set(di, 1);
  const auto none = hn::Set(di, kQuickRuns * kQuickMagnitudes);
  const auto low_half = hn::Set(wide, 0xFFFFFFFFu), low_byte = hn::Set(wide, 0xFFu);
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto token = hn::LoadU(d, tokens + i);
    const auto before = hn::LoadU(d, tokens + i - 1);
    const auto distance = hn::Sub(hn::ShiftRight<16>(token), hn::ShiftRight<16>(before));
    const auto run = hn::Sub(hn::BitCast(di, distance), one);
    const auto level = hn::ShiftRight<16>(hn::BitCast(di, hn::ShiftLeft<16>(token)));
    const auto magnitude = hn::Sub(hn::Abs(level), one);
    const auto is_quick = hn::And(hn::Lt(run, hn::Set(di, kQuickRuns)),
                                  hn::Lt(magnitude, hn::Set(di, kQuickMagnitudes)));
    const auto index = hn::Add(hn::Mul(run, hn::Set(di, kQuickMagnitudes)), magnitude);
    const auto entry = hn::GatherIndex(d, &quick[0], hn::IfThenElse(is_quick, index, none));
    const auto length = hn::And(entry, hn::Set(d, 0xFFu));
    const auto negative = hn::ShiftRight<31>(hn::BitCast(d, level));
    const auto sign = hn::Shl(hn::ShiftLeft<8>(negative), length);
    const auto sum = hn::Add(hn::Or(entry, sign), hn::Set(d, 1u));
    const auto words = hn::BitCast(wide, hn::IfThenZeroElse(hn::Eq(entry, hn::Zero(d)), sum));
    const auto first = hn::And(words, low_half), second = hn::ShiftRight<32>(words);
    const auto first_length = hn::And(first, low_byte);
    const auto bits =
        hn::Or(hn::AndNot(low_byte, first), hn::Shl(hn::AndNot(low_byte, second), first_length));
    const auto pair = hn::Or(bits, hn::Add(first_length, hn::And(second, low_byte)));
    const auto lacks = hn::Or(hn::Eq(first, hn::Zero(wide)), hn::Eq(second, hn::Zero(wide)));
    hn::StoreU(hn::IfThenElse(lacks, hn::Set(wide, kNoPair), pair), wide, pairs + i / 2);
  }
#endif
  for (; i + 2 <= count; i += 2) {
    const auto word = [&](std::size_t at) {
      const std::uint32_t run = (tokens[at] >> 16) - (tokens[at - 1] >> 16) - 1;
      return std::uint64_t{quick_word(run, static_cast<std::int16_t>(tokens[at]), quick)};
    };
    const std::uint64_t first = word(i), second = word(i + 1);
    const std::uint64_t bits = (first >> 8) | (second >> 8) << (first & 0xFF);
    const bool lacks = first == 0 || second == 0;
    pairs[i / 2] = lacks ? kNoPair : bits << 8 | ((first & 0xFF) + (second & 0xFF));
  }
}

template <bool kBackward>
std::size_t Put(std::span<const std::uint64_t> pairs, std::size_t room, BitStream& stream) {
  constexpr unsigned kMostBits = 56;  // behind fewer than 8
  BitStream out = stream;
  const std::byte* const last = kBackward ? out.at - room + 8 : out.at + room - 8;
  std::size_t i = 0;
  for (; i + 2 <= pairs.size(); i += 2) {
    const std::uint64_t first = pairs[i], second = pairs[i + 1];
    const auto first_bits = static_cast<unsigned>(first & 0xFF);
    const unsigned bits = first_bits + static_cast<unsigned>(second & 0xFF);
    if (HWY_UNLIKELY(bits > kMostBits || (kBackward ? out.at < last : out.at > last))) break;
    out.word |= (first >> 8 | second >> 8 << first_bits) << out.bits;
    out.bits += bits;
    if constexpr (kBackward) {
      const std::uint64_t swapped = byte_swapped(out.word);
      std::memcpy(out.at - 8, &swapped, 8);
      out.at -= out.bits / 8;
    } else {
      std::memcpy(out.at, &out.word, 8);
      out.at += out.bits / 8;
    }
    out.word >>= out.bits & ~7u;
    out.bits &= 7;
  }
  stream = out;
  return i;
}

std::size_t PutPairs(std::span<const std::uint64_t> pairs, bool backward, std::size_t room,
                     BitStream& stream) {
  return backward ? Put<true>(pairs, room, stream) : Put<false>(pairs, room, stream);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(Pairs);
HWY_EXPORT(PutPairs);

void quick_pairs(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
                 std::uint64_t* pairs) {
  HWY_DYNAMIC_DISPATCH(Pairs)(tokens, count, quick, pairs);
}

std::size_t put_pairs(std::span<const std::uint64_t> pairs, bool backward, std::size_t room,
                      BitStream& stream) {
  if (room < 8) return 0;
  return HWY_DYNAMIC_DISPATCH(PutPairs)(pairs, backward, room, stream);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
