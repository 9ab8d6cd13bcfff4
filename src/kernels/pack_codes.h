// b-bit codes in a string without gaps: code i occupies bits [i*b, (i+1)*b), lowest bits first. So
// 8 codes make b whole bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lgreco::kernels {

constexpr std::size_t packed_bytes(std::size_t count, int bits) { return (count * bits + 7) / 8; }

/// Room behind the codes that the two functions may write to.
constexpr std::size_t kCodePadding = 8;

/// Packs one code a byte to packed_bytes(count, bits) bytes; the spare high bits of the last one
/// are 0. Writes zeros behind the codes. REQUIRES: 1 <= bits <= 8, every code < 2^bits.
void pack_codes(std::uint8_t* codes, std::size_t count, int bits, std::uint8_t* packed);

/// The inverse.
void unpack_codes(const std::uint8_t* packed, std::size_t count, int bits, std::uint8_t* codes);

}  // namespace lgreco::kernels
