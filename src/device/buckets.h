// What the kernels of quantisation have in common: buckets, one a block, and their codes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/device/thread.h"
#include "src/kernels/format.h"
#include "src/kernels/spare_bits.h"

namespace lgreco::device {

/// Of the payload of some values. Each bucket's has a header, then the codes.
struct Buckets {
  std::size_t values;  // in all
  std::size_t bucket;  // of each bucket but the last, a multiple of 8
  int bits;

  LGRECO_HD constexpr std::size_t blocks() const { return (values + bucket - 1) / bucket; }
  LGRECO_HD constexpr std::size_t first(std::size_t block) const { return block * bucket; }
  LGRECO_HD constexpr std::size_t length(std::size_t block) const {
    return std::min(bucket, values - first(block));
  }
  LGRECO_HD constexpr std::size_t bytes_before(std::size_t block, std::size_t header) const {
    return block * (header + kernels::packed_bytes(bucket, bits));
  }
};

/// Packs the codes of one bucket, and leaves in `values` what they do not say. A thread has the 8
/// values of whole bytes to itself, so that none waits for another's.
template <typename CodeOf, typename ValueOf>
LGRECO_HD void pack_keep_loss(const Thread& thread, float* values, std::size_t count, int bits,
                              std::uint8_t* packed, const CodeOf& code_of,
                              const ValueOf& value_of) {
  constexpr std::size_t kGroup = kernels::kCodesInGroup;
  thread.share((count + kGroup - 1) / kGroup, [&](std::size_t group) {
    const std::size_t first = group * kGroup;
    kernels::pack_group(std::min(kGroup, count - first), bits,
                        packed + kernels::packed_bytes(first, bits), [&](std::size_t i) {
                          float& value = values[first + i];
                          const std::uint8_t code = code_of(value, first + i);
                          value -= value_of(code);
                          return code;
                        });
  });
}

/// accumulator += the values of the codes. False, with nothing added, when a spare bit behind the
/// last code is set.
template <typename ValueOf>
LGRECO_HD bool unpack_add(const Thread& thread, const std::uint8_t* packed, std::size_t count,
                          int bits, float* accumulator, const ValueOf& value_of) {
  if (!kernels::spare_bits_are_zero(packed, count * static_cast<std::size_t>(bits))) return false;
  thread.share(
      count, [&](std::size_t i) { accumulator[i] += value_of(kernels::code_at(packed, bits, i)); });
  return true;
}

}  // namespace lgreco::device
