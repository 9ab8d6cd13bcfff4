// Counter-based random numbers: element i of a stream is a pure function of (key, i), so results do
// not depend on vector width, thread or order.
#pragma once

#include <cstdint>

#include "lgreco/compressor.h"

namespace lgreco {

/// A RandomKey folded to two words that kernels mix with the element counter.
struct RandomStream {
  std::uint32_t key0 = 0;
  std::uint32_t key1 = 0;
};

constexpr std::uint64_t mix64(std::uint64_t x) {  // splitmix64's finalizer (Vigna, 2015)
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

constexpr RandomStream stream_of(const RandomKey& key) {
  const std::uint64_t folded = mix64(mix64(mix64(key.seed) ^ key.step) ^ key.layer);
  return {static_cast<std::uint32_t>(folded), static_cast<std::uint32_t>(folded >> 32)};
}

/// The stream of element `element` of a layer. Its counter, the element's, has 32 bits; what is
/// above goes into the key.
constexpr RandomStream stream_of(const RandomKey& key, std::uint64_t element) {
  return stream_of({key.seed ^ (element >> 32), key.step, key.layer});
}

constexpr std::uint32_t mix32(std::uint32_t x) {  // lowbias32 (Wellons, 2018)
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

/// 32 random bits for element `index`. Vector kernels repeat exactly this.
constexpr std::uint32_t random_bits(const RandomStream& stream, std::uint32_t index) {
  return mix32(mix32(index ^ stream.key0) + stream.key1);
}

/// Uniform in [0, 1) with 24 bits.
constexpr float uniform(const RandomStream& stream, std::uint32_t index) {
  return static_cast<float>(random_bits(stream, index) >> 8) * 0x1.0p-24f;
}

}  // namespace lgreco
