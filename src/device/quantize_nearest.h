// Kernels of `quantize` to nearest, as src/compressors/quantize_nearest.cc; a block has one bucket.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "src/compressors/bucket_grid.h"
#include "src/device/buckets.h"
#include "src/device/thread.h"
#include "src/kernels/format.h"
#include "src/kernels/moments.h"

namespace lgreco::device {

constexpr std::size_t kNearestHeader = sizeof(std::uint16_t);

/// values += residual (null: nothing), `payload` gets them encoded, and `values` keep what it does
/// not say. Sets `refused` to 1 where encode_keep_loss() returns false; all else is unspecified
/// then.
struct QuantizeNearestKeepLoss {
  Buckets buckets;
  kernels::LloydMaxTable table;
  float* values;
  const float* residual;
  std::uint8_t* payload;
  unsigned* refused;

  static constexpr int kPhases = 6;

  struct Shared {
    kernels::MomentSums sums;
    kernels::Range ranges[kernels::MomentSums::kSums];
    kernels::Moments moments;
    kernels::Range range;
    std::uint16_t header;
    bool is_refused;
  };

  std::size_t blocks() const { return buckets.blocks(); }

  LGRECO_HD void run(int phase, const Thread& thread, Shared& shared) const {
    const std::size_t first = buckets.first(thread.block), count = buckets.length(thread.block);
    float* bucket = values + first;
    switch (phase) {
      case 0:
        if (residual == nullptr) return;
        return thread.share(count, [&](std::size_t i) { bucket[i] += residual[first + i]; });
      case 1:
        return sum_up(thread, bucket, count, 1, shared);
      case 2:
        if (thread.is_first()) fold(count, shared);
        return;
      case 3:
        if (!sums_again(shared.moments)) return;
        return sum_up(thread, bucket, count, kernels::unit_of(shared.moments.largest), shared);
      case 4:
        if (thread.is_first()) choose(count, thread.block, shared);
        return;
      default:
        if (!shared.is_refused) pack(thread, bucket, count, shared);
    }
  }

 private:
  LGRECO_HD static bool sums_again(const kernels::Moments& moments) {
    return moments.are_finite() && !moments.suit();
  }

  // Each running sum in one thread, in order: floats added in another have other bits.
  LGRECO_HD static void sum_up(const Thread& thread, const float* bucket, std::size_t count,
                               float unit, Shared& shared) {
    constexpr std::size_t kSums = kernels::MomentSums::kSums;
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float per_unit = 1 / unit;
    thread.share(kSums, [&](std::size_t s) {
      shared.sums.clear(s);
      kernels::Range range{kInfinity, -kInfinity};
      for (std::size_t i = s; i < count; i += kSums) {
        shared.sums.take(s, bucket[i], per_unit);
        range = {std::min(range.low, bucket[i]), std::max(range.high, bucket[i])};
      }
      shared.ranges[s] = range;
    });
  }

  LGRECO_HD static void fold(std::size_t count, Shared& shared) {
    shared.moments = shared.sums.fold(count, 1);
    shared.range = shared.ranges[0];
    for (const kernels::Range& range : shared.ranges) {
      shared.range = {std::min(shared.range.low, range.low),
                      std::max(shared.range.high, range.high)};
    }
  }

  LGRECO_HD void choose(std::size_t count, std::size_t block, Shared& shared) const {
    kernels::Moments& moments = shared.moments;
    shared.is_refused = !moments.are_finite();
    if (sums_again(moments)) {
      moments = shared.sums.fold(count, kernels::unit_of(moments.largest));
    }
    if (!shared.is_refused) {
      const auto grid =
          BucketGrid::of(moments, count, buckets.bits, table, [&] { return shared.range; });
      shared.is_refused = !grid.is_valid(table);
      shared.header = grid.header();
      kernels::write_16(shared.header, payload_of(block));
    }
    if (shared.is_refused) *refused = 1;
  }

  // The grid is what a decoder will read.
  LGRECO_HD void pack(const Thread& thread, float* bucket, std::size_t count,
                      const Shared& shared) const {
    const auto grid = *BucketGrid::read(shared.header, buckets.bits, table);
    pack_keep_loss(
        thread, bucket, count, buckets.bits, payload_of(thread.block) + kNearestHeader,
        [&](float value, std::size_t) { return grid.code_of(value, table); },
        [&](unsigned code) { return grid.value_of(code, table); });
  }

  LGRECO_HD std::uint8_t* payload_of(std::size_t block) const {
    return payload + buckets.bytes_before(block, kNearestHeader);
  }
};

/// accumulator += what `payload` says. Sets `refused` to 1 where decode_add() refuses the payload;
/// `accumulator` may be partly changed then.
struct DequantizeNearestAdd {
  Buckets buckets;
  kernels::LloydMaxTable table;
  const std::uint8_t* payload;
  float* accumulator;
  unsigned* refused;

  static constexpr int kPhases = 1;
  struct Shared {};

  std::size_t blocks() const { return buckets.blocks(); }

  LGRECO_HD void run(int, const Thread& thread, Shared&) const {
    const std::uint8_t* bucket = payload + buckets.bytes_before(thread.block, kNearestHeader);
    const auto grid = BucketGrid::read(kernels::read_16(bucket), buckets.bits, table);
    const bool is_added =
        grid && unpack_add(thread, bucket + kNearestHeader, buckets.length(thread.block),
                           buckets.bits, accumulator + buckets.first(thread.block),
                           [&](unsigned code) { return grid->value_of(code, table); });
    if (!is_added) *refused = 1;
  }
};

}  // namespace lgreco::device
