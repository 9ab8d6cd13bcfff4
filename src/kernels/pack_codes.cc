#include "src/kernels/pack_codes.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/pack_codes.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Words = hn::ScalableTag<std::uint64_t>;

// Every `distance` bits of a word, the lowest `bits` ones.
constexpr std::uint64_t fields(int bits, int distance) {
  std::uint64_t mask = 0;
  for (int at = 0; at < 64; at += distance) mask |= ((std::uint64_t{1} << bits) - 1) << at;
  return mask;
}

// Moves the upper of two neighbouring fields of kBits, which lie kDistance apart, next to the lower
// one; `Split` is the inverse.
template <int kBits, int kDistance>
HWY_INLINE std::uint64_t Join(std::uint64_t word) {
  constexpr std::uint64_t kLower = fields(kBits, 2 * kDistance);
  return (word & kLower) | ((word >> (kDistance - kBits)) & (kLower << kBits));
}
template <int kBits, int kDistance>
HWY_INLINE std::uint64_t Split(std::uint64_t word) {
  constexpr std::uint64_t kLower = fields(kBits, 2 * kDistance);
  return (word & kLower) | ((word << (kDistance - kBits)) & (kLower << kDistance));
}
template <int kBits, int kDistance>
HWY_INLINE hn::Vec<Words> Join(hn::Vec<Words> word) {
  constexpr std::uint64_t kLower = fields(kBits, 2 * kDistance);
  const auto upper = hn::ShiftRight<kDistance - kBits>(word);
  return hn::Or(hn::And(word, hn::Set(Words(), kLower)),
                hn::And(upper, hn::Set(Words(), kLower << kBits)));
}
template <int kBits, int kDistance>
HWY_INLINE hn::Vec<Words> Split(hn::Vec<Words> word) {
  static_assert(2 * kBits <= kDistance);  // so that the fields do not run into each other
  const auto upper = hn::ShiftLeft<kDistance - kBits>(word);
  return hn::And(hn::Or(word, upper), hn::Set(Words(), fields(kBits, kDistance)));
}

// The 8 bytes of a word to its lowest 8 * kBits bits, and back.
template <int kBits, typename Word>
HWY_INLINE Word Narrow(Word word) {
  return Join<4 * kBits, 32>(Join<2 * kBits, 16>(Join<kBits, 8>(word)));
}
template <int kBits, typename Word>
HWY_INLINE Word Widen(Word word) {
  return Split<kBits, 8>(Split<2 * kBits, 16>(Split<4 * kBits, 32>(word)));
}

// Whole vectors of words, for codes of 1, 2 or 4 bits: 8 of them make a number of kBits bytes.
// Return how many codes they did.
#if HWY_TARGET == HWY_SCALAR
template <int kBits>
std::size_t PackVectors(const std::uint8_t*, std::size_t, std::uint8_t*) {
  return 0;
}
template <int kBits>
std::size_t UnpackVectors(const std::uint8_t*, std::size_t, std::uint8_t*) {
  return 0;
}
#else
template <int kBits>
using Packed = hn::Rebind<hwy::UnsignedFromSize<kBits>, Words>;
template <typename D>
using Bytes = hn::Repartition<std::uint8_t, D>;

template <int kBits>
std::size_t PackVectors(const std::uint8_t* codes, std::size_t count, std::uint8_t* packed) {
  if constexpr (!std::has_single_bit(static_cast<unsigned>(kBits))) {
    return 0;
  } else {
    const Words d;
    const Packed<kBits> narrow;
    std::size_t i = 0;
    for (; i + 8 * hn::Lanes(d) <= count; i += 8 * hn::Lanes(d)) {
      const auto words = hn::BitCast(d, hn::LoadU(Bytes<Words>(), codes + i));
      const auto bytes =
          hn::BitCast(Bytes<Packed<kBits> >(), hn::TruncateTo(narrow, Narrow<kBits>(words)));
      hn::StoreU(bytes, Bytes<Packed<kBits> >(), packed + i / 8 * kBits);
    }
    return i;
  }
}

template <int kBits>
std::size_t UnpackVectors(const std::uint8_t* packed, std::size_t count, std::uint8_t* codes) {
  if constexpr (!std::has_single_bit(static_cast<unsigned>(kBits))) {
    return 0;
  } else {
    const Words d;
    const hn::Rebind<std::uint32_t, Words> half;
    std::size_t i = 0;
    for (; i + 8 * hn::Lanes(d) <= count; i += 8 * hn::Lanes(d)) {
      const auto bytes = hn::LoadU(Bytes<Packed<kBits> >(), packed + i / 8 * kBits);
      const auto narrow = hn::BitCast(Packed<kBits>(), bytes);
      hn::Vec<Words> words;
      if constexpr (kBits == 4) {
        words = hn::PromoteTo(d, narrow);
      } else {
        words = hn::PromoteTo(d, hn::PromoteTo(half, narrow));
      }
      hn::StoreU(hn::BitCast(Bytes<Words>(), Widen<kBits>(words)), Bytes<Words>(), codes + i);
    }
    return i;
  }
}
#endif

template <int kBits>
void PackWords(const std::uint8_t* codes, std::size_t count, std::uint8_t* packed) {
  std::size_t i = PackVectors<kBits>(codes, count, packed);
  const auto pack_word = [&](std::size_t bytes) HWY_ATTR {
    std::uint64_t word;
    std::memcpy(&word, codes + i, sizeof word);
    word = Narrow<kBits>(word);
    std::memcpy(packed + i / 8 * kBits, &word, bytes);
  };
  for (; i + 8 <= count; i += 8) pack_word(kBits);
  if (i < count) pack_word(packed_bytes(count - i, kBits));
}

template <int kBits>
void UnpackWords(const std::uint8_t* packed, std::size_t count, std::uint8_t* codes) {
  std::size_t i = UnpackVectors<kBits>(packed, count, codes);
  const auto unpack_word = [&](std::size_t bytes) HWY_ATTR {
    std::uint64_t word = 0;
    std::memcpy(&word, packed + i / 8 * kBits, bytes);
    word = Widen<kBits>(word);
    std::memcpy(codes + i, &word, sizeof word);
  };
  // A whole word is read at once, and what is too much ignored, where that does not end outside.
  const std::size_t bytes = packed_bytes(count, kBits);
  for (; i / 8 * kBits + sizeof(std::uint64_t) <= bytes; i += 8) unpack_word(sizeof(std::uint64_t));
  for (; i + 8 <= count; i += 8) unpack_word(kBits);
  if (i < count) unpack_word(packed_bytes(count - i, kBits));
}

void PackCodes(const std::uint8_t* codes, std::size_t count, int bits, std::uint8_t* packed) {
  switch (bits) {
    case 1:
      return PackWords<1>(codes, count, packed);
    case 2:
      return PackWords<2>(codes, count, packed);
    case 3:
      return PackWords<3>(codes, count, packed);
    case 4:
      return PackWords<4>(codes, count, packed);
    case 5:
      return PackWords<5>(codes, count, packed);
    case 6:
      return PackWords<6>(codes, count, packed);
    case 7:
      return PackWords<7>(codes, count, packed);
    default:
      std::copy_n(codes, count, packed);
  }
}

void UnpackCodes(const std::uint8_t* packed, std::size_t count, int bits, std::uint8_t* codes) {
  switch (bits) {
    case 1:
      return UnpackWords<1>(packed, count, codes);
    case 2:
      return UnpackWords<2>(packed, count, codes);
    case 3:
      return UnpackWords<3>(packed, count, codes);
    case 4:
      return UnpackWords<4>(packed, count, codes);
    case 5:
      return UnpackWords<5>(packed, count, codes);
    case 6:
      return UnpackWords<6>(packed, count, codes);
    case 7:
      return UnpackWords<7>(packed, count, codes);
    default:
      std::copy_n(packed, count, codes);
  }
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(PackCodes);
HWY_EXPORT(UnpackCodes);

void pack_codes(std::uint8_t* codes, std::size_t count, int bits, std::uint8_t* packed) {
  std::memset(codes + count, 0, kCodePadding);
  HWY_DYNAMIC_DISPATCH(PackCodes)(codes, count, bits, packed);
}

void unpack_codes(const std::uint8_t* packed, std::size_t count, int bits, std::uint8_t* codes) {
  HWY_DYNAMIC_DISPATCH(UnpackCodes)(packed, count, bits, codes);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
