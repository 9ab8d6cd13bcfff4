// Many codes in a string without gaps, whose bits are as format.h says.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/kernels/format.h"

namespace lgreco::kernels {

/// Room behind the codes that the two functions may write to.
constexpr std::size_t kCodePadding = 8;

/// Packs one code a byte to packed_bytes(count, bits) bytes; the spare high bits of the last one
/// are 0. Writes zeros behind the codes. REQUIRES: 1 <= bits <= 8, every code < 2^bits.
void pack_codes(std::uint8_t* codes, std::size_t count, int bits, std::uint8_t* packed);

/// The inverse.
void unpack_codes(const std::uint8_t* packed, std::size_t count, int bits, std::uint8_t* codes);

/// Codes pass through blocks on the stack, one a byte. A multiple of 8, so that blocks end at
/// bytes.
constexpr std::size_t kCodeBlock = 2048;

/// pack_codes() of many: `codes_of(at, length, codes)` writes those of the values from `at` on.
template <typename CodesOf>
void pack_in_blocks(std::size_t count, int bits, std::uint8_t* packed, const CodesOf& codes_of) {
  std::uint8_t codes[kCodeBlock + kCodePadding];
  for (std::size_t at = 0; at < count; at += kCodeBlock) {
    const std::size_t length = std::min(kCodeBlock, count - at);
    codes_of(at, length, codes);
    pack_codes(codes, length, bits, packed + packed_bytes(at, bits));
  }
}

/// The inverse: `use(at, length, codes)` gets them.
template <typename Use>
void unpack_in_blocks(const std::uint8_t* packed, std::size_t count, int bits, const Use& use) {
  std::uint8_t codes[kCodeBlock + kCodePadding];
  for (std::size_t at = 0; at < count; at += kCodeBlock) {
    const std::size_t length = std::min(kCodeBlock, count - at);
    unpack_codes(packed + packed_bytes(at, bits), length, bits, codes);
    use(at, length, codes);
  }
}

}  // namespace lgreco::kernels
