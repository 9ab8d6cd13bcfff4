// Kernels of `quantize` with stochastic rounding, as src/compressors/quantize.cc; a block has one
// bucket.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "src/base/random.h"
#include "src/compressors/quantize_grid.h"
#include "src/device/buckets.h"
#include "src/device/thread.h"
#include "src/kernels/format.h"

namespace lgreco::device {

/// values += residual (null: nothing), `payload` gets them encoded, and `values` keep what it does
/// not say. Sets `refused` to 1 where encode_keep_loss() returns false; all else is unspecified
/// then.
struct QuantizeStochasticKeepLoss {
  Buckets buckets;
  RandomKey key;
  std::size_t first_element;  // the index in the layer of values[0]
  float* values;
  const float* residual;
  std::uint8_t* payload;
  unsigned* refused;

  static constexpr int kPhases = 3;

  struct Shared {
    kernels::Range ranges[kMostThreads];
    bool are_finite[kMostThreads];
    QuantizeGrid header;
    bool is_refused;
  };

  std::size_t blocks() const { return buckets.blocks(); }

  LGRECO_HD void run(int phase, const Thread& thread, Shared& shared) const {
    switch (phase) {
      case 0:
        return add_and_find_range(thread, shared);
      case 1:
        if (thread.is_first()) choose(thread, shared);
        return;
      default:
        if (!shared.is_refused) pack(thread, shared.header);
    }
  }

 private:
  LGRECO_HD void add_and_find_range(const Thread& thread, Shared& shared) const {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const std::size_t first = buckets.first(thread.block);
    kernels::Range range{kInfinity, -kInfinity};
    bool are_finite = true;
    thread.share(buckets.length(thread.block), [&](std::size_t i) {
      float& value = values[first + i];
      if (residual != nullptr) value += residual[first + i];
      range = {std::min(range.low, value), std::max(range.high, value)};
      are_finite = are_finite && std::isfinite(value);
    });
    shared.ranges[thread.index] = range;
    shared.are_finite[thread.index] = are_finite;
  }

  LGRECO_HD void choose(const Thread& thread, Shared& shared) const {
    kernels::Range range = shared.ranges[0];
    bool are_finite = true;
    for (std::size_t t = 0; t < thread.count; ++t) {
      range = {std::min(range.low, shared.ranges[t].low),
               std::max(range.high, shared.ranges[t].high)};
      are_finite = are_finite && shared.are_finite[t];
    }
    shared.is_refused = !are_finite;
    if (are_finite) {
      shared.header = QuantizeGrid::enclosing(range);
      shared.is_refused = !shared.header.is_valid();
      shared.header.write(payload_of(thread.block));
    }
    if (shared.is_refused) *refused = 1;
  }

  LGRECO_HD void pack(const Thread& thread, const QuantizeGrid& header) const {
    const std::size_t first = buckets.first(thread.block);
    const std::uint64_t element = first_element + first;
    const RandomStream stream = stream_of(key, element);
    const kernels::Grid grid = header.grid(buckets.bits);
    pack_keep_loss(
        thread, values + first, buckets.length(thread.block), buckets.bits,
        payload_of(thread.block) + sizeof(QuantizeGrid),
        [&](float value, std::size_t i) {
          return kernels::code_of(value, grid, &stream, static_cast<std::uint32_t>(element + i));
        },
        [&](unsigned code) { return kernels::value_of(code, grid); });
  }

  LGRECO_HD std::uint8_t* payload_of(std::size_t block) const {
    return payload + buckets.bytes_before(block, sizeof(QuantizeGrid));
  }
};

/// accumulator += what `payload` says. Sets `refused` to 1 where decode_add() refuses the payload;
/// `accumulator` may be partly changed then.
struct DequantizeStochasticAdd {
  Buckets buckets;
  const std::uint8_t* payload;
  float* accumulator;
  unsigned* refused;

  static constexpr int kPhases = 1;
  struct Shared {};

  std::size_t blocks() const { return buckets.blocks(); }

  LGRECO_HD void run(int, const Thread& thread, Shared&) const {
    const std::uint8_t* bucket = payload + buckets.bytes_before(thread.block, sizeof(QuantizeGrid));
    const auto header = QuantizeGrid::read(bucket);
    if (!header.is_valid() || !add(thread, bucket + sizeof header, header.grid(buckets.bits))) {
      *refused = 1;
    }
  }

 private:
  LGRECO_HD bool add(const Thread& thread, const std::uint8_t* codes,
                     const kernels::Grid& grid) const {
    return unpack_add(thread, codes, buckets.length(thread.block), buckets.bits,
                      accumulator + buckets.first(thread.block),
                      [&](unsigned code) { return kernels::value_of(code, grid); });
  }
};

}  // namespace lgreco::device
