// The k largest magnitudes, without a sort and without heap memory: find the threshold once, then
// walk over the values in blocks.
//
// A sample tells between which two magnitudes the threshold lies, in all likelihood. One pass then
// marks the values that may be kept, counts what is above and collects what is between, from which
// the threshold follows exactly; what is not marked is not read again. No heap memory is taken, but
// some 400 KiB of stack. Where the sample misled, or
// too much is between, three passes over the digits of the magnitudes decide.
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

/// Where the values to keep may be: a word for each block of kBlock values, whose bit j marks the
/// run of kRun values from j * kRun on. Where many runs of a block are marked, all are: going on is
/// faster than jumping. The blocks of a long layer share words, each looking at what any needs.
class TopKCandidates {
 public:
  static constexpr std::size_t kRun = 32;
  static constexpr std::size_t kBlock = 64 * kRun;
  static constexpr std::uint64_t kAllRuns = ~std::uint64_t{0};

  /// Nothing is marked. REQUIRES: count > 0.
  explicit TopKCandidates(std::size_t count);

  void mark(std::size_t block, std::uint64_t runs);
  void mark_all();
  std::uint64_t runs(std::size_t block) const { return words_[block >> shift_]; }
  /// Brings what is marked in a block, if there is one, into the cache in the meantime.
  void prefetch(const float* values, std::size_t block) const;

 private:
  static constexpr int kSparse = 8;
  static constexpr std::size_t kWords = 8192;

  std::size_t blocks_;
  int shift_ = 0;
  std::uint64_t words_[kWords];
};

/// The threshold that keeps exactly k values; among equal magnitudes the smaller index wins. Marks
/// in `candidates` where they are, and more.
/// REQUIRES: 0 < k <= count, no NaN; `candidates` is new and of `count`.
TopKThreshold find_threshold(const float* values, std::size_t count, std::size_t k,
                             TopKCandidates& candidates);

/// values += addend (nullptr: nothing), then find_threshold. False, with `threshold` unspecified,
/// when a sum is not finite. REQUIRES: as find_threshold, but that a value may be NaN.
bool add_and_find_threshold(const float* addend, std::size_t count, std::size_t k, float* values,
                            TopKThreshold& threshold, TopKCandidates& candidates);

/// Writes the indices (in this block, ascending) of the values to keep and returns how many they
/// are; takes those that equal the threshold off `threshold.ties`. Looks at the runs of kRun values
/// whose bit in `runs` is set. Call for the blocks of a layer in ascending order. `indices` has
/// room for `count`, and what lies behind the written ones is unspecified.
/// REQUIRES: count <= TopKCandidates::kBlock.
std::size_t select_block(const float* values, std::size_t count, std::uint64_t runs,
                         TopKThreshold& threshold, std::uint32_t* indices);

}  // namespace lgreco::kernels
