// What is left of the last byte of a string of bits is zero; bit b is bit b mod 8 of byte b / 8.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lgreco::kernels {

constexpr bool spare_bits_are_zero(const std::uint8_t* string, std::uint64_t bits) {
  return bits % 8 == 0 || string[bits / 8] >> (bits % 8) == 0;
}
inline bool spare_bits_are_zero(const std::byte* string, std::uint64_t bits) {
  return spare_bits_are_zero(reinterpret_cast<const std::uint8_t*>(string), bits);
}

}  // namespace lgreco::kernels
