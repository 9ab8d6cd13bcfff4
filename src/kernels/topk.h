// The k largest magnitudes, without a sort and without heap memory: find the threshold once, then
// walk over the values in blocks.
//
// A sample tells between which two magnitudes the threshold lies, in all likelihood. One pass then
// counts what is above and collects what is between, from which the threshold follows exactly.
// Where the sample misled, or too much is between, three passes over the digits of the magnitudes
// decide.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lgreco::kernels {

/// Which values are kept: those whose magnitude, read as an integer, exceeds `magnitude`, and the
/// first `ties` of those that equal it. The order of floats without their sign is the order of
/// their bit patterns.
struct TopKThreshold {
  std::uint32_t magnitude = 0;
  std::uint64_t ties = 0;
  bool operator==(const TopKThreshold&) const = default;
};

/// The threshold that keeps exactly k values; among equal magnitudes the smaller index wins.
/// REQUIRES: 0 < k <= count, no NaN.
TopKThreshold find_threshold(const float* values, std::size_t count, std::size_t k);

/// values += addend (nullptr: nothing), then find_threshold. False, with `threshold` unspecified,
/// when a sum is not finite. REQUIRES: 0 < k <= count.
bool add_and_find_threshold(const float* addend, std::size_t count, std::size_t k, float* values,
                            TopKThreshold& threshold);

/// Writes the indices (in this block, ascending) of the values to keep and returns how many they
/// are; takes those that equal the threshold off `threshold.ties`. Call for the blocks of a layer
/// in ascending order. `indices` has room for `count`, and what lies behind the written ones is
/// unspecified. REQUIRES: count < 2^32.
std::size_t select_block(const float* values, std::size_t count, TopKThreshold& threshold,
                         std::uint32_t* indices);

}  // namespace lgreco::kernels
