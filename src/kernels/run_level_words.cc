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

#if HWY_TARGET != HWY_SCALAR  // which has no wider lanes
using Tokens = hn::ScalableTag<std::uint32_t>;
using Pairs = hn::RepartitionToWide<Tokens>;

// The words of these tokens in pairs, as a quick table has them.
HWY_INLINE hn::Vec<Pairs> PairsOf(const std::uint32_t* tokens, const QuickWords& quick) {
  const Tokens d;
  const hn::RebindToSigned<Tokens> di;
  const Pairs wide;
  const auto token = hn::LoadU(d, tokens);
  const auto place = hn::ShiftRight<16>(token);
  const auto distance = hn::Sub(place, hn::ShiftRight<16>(hn::LoadU(d, tokens - 1)));
  const auto run = hn::Sub(distance, hn::Set(d, 1u));
  const auto level = hn::ShiftRight<16>(hn::BitCast(di, hn::ShiftLeft<16>(token)));
  const auto column = hn::Add(hn::BitCast(d, level), hn::Set(d, kQuickLevels));
  const auto beyond = hn::Or(hn::AndNot(hn::Set(d, kQuickRuns - 1), run),
                             hn::AndNot(hn::Set(d, kQuickRow - 1), column));
  const auto index = hn::Add(hn::ShiftLeft<5>(run), column);
  static_assert(kQuickRow == 1 << 5);
  const auto none = hn::Set(d, kQuickRuns * kQuickRow);
  const auto found = hn::IfThenElse(hn::Eq(beyond, hn::Zero(d)), index, none);
  const auto words = hn::BitCast(wide, hn::GatherIndex(d, &quick[0], hn::BitCast(di, found)));
  const auto low_byte = hn::Set(wide, 0xFFu);
  const auto first = hn::And(words, hn::Set(wide, 0xFFFFFFFFu)), second = hn::ShiftRight<32>(words);
  const auto behind = hn::Shl(hn::AndNot(low_byte, second), hn::And(first, low_byte));
  return hn::Or(hn::Add(first, hn::And(second, low_byte)), behind);
}
#endif

std::size_t Groups(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
                   WordGroups& groups) {
  const std::size_t end = (count - 1) / kGroup;
  std::size_t group = 0;
#if HWY_TARGET != HWY_SCALAR
  const Pairs d;
  const auto low_byte = hn::Set(d, 0xFFu);
  const std::size_t lanes = hn::Lanes(Tokens());
  for (; group + hn::Lanes(d) <= end; group += hn::Lanes(d)) {
    const std::uint32_t* at = tokens + 1 + kGroup * group;
    const auto low = PairsOf(at, quick), high = PairsOf(at + lanes, quick);
    const auto first = hn::ConcatEven(d, high, low), second = hn::ConcatOdd(d, high, low);
    const auto first_length = hn::Min(hn::And(first, low_byte), hn::Set(d, 63u));
    const auto behind = hn::Shl(hn::ShiftRight<8>(second), first_length);
    hn::StoreU(hn::Or(hn::ShiftRight<8>(first), behind), d, groups.bits + group);
    hn::StoreU(hn::And(hn::Add(first, second), low_byte), d, groups.length + group);
  }
#endif
  for (; group < end; ++group) {
    std::uint64_t bits = 0, length = 0;
    for (std::size_t i = 1 + kGroup * group; i <= kGroup * (group + 1); ++i) {
      const std::uint32_t run = (tokens[i] >> 16) - (tokens[i - 1] >> 16) - 1;
      const std::uint64_t word = quick[quick_index(run, static_cast<std::int16_t>(tokens[i]))];
      if (length < 64) bits |= word >> 8 << length;
      length += word & 0xFF;
    }
    groups.bits[group] = bits;
    groups.length[group] = length;
  }
  return end;
}

template <bool kBackward>
std::size_t Put(const WordGroups& groups, std::size_t i, std::size_t end, std::size_t room,
                BitStream& stream) {
  BitStream out = stream;
  const std::byte* const last = kBackward ? out.at - room + 8 : out.at + room - 8;
  for (; i < end; ++i) {
    const std::uint64_t length = groups.length[i];
    if (HWY_UNLIKELY(length > kMostGroupBits || (kBackward ? out.at < last : out.at > last))) break;
    out.word |= groups.bits[i] << out.bits;
    out.bits += static_cast<unsigned>(length);
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

std::size_t PutGroups(const WordGroups& groups, std::size_t first, std::size_t end, bool backward,
                      std::size_t room, BitStream& stream) {
  return backward ? Put<true>(groups, first, end, room, stream)
                  : Put<false>(groups, first, end, room, stream);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(Groups);
HWY_EXPORT(PutGroups);

std::size_t word_groups(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
                        WordGroups& groups) {
  return HWY_DYNAMIC_DISPATCH(Groups)(tokens, count, quick, groups);
}

std::size_t put_groups(const WordGroups& groups, std::size_t first, std::size_t end, bool backward,
                       std::size_t room, BitStream& stream) {
  if (room < 8) return first;
  return HWY_DYNAMIC_DISPATCH(PutGroups)(groups, first, end, backward, room, stream);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
