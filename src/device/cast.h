// Kernels of `cast`, as src/compressors/cast.cc; a block has a run of values.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "src/device/buckets.h"
#include "src/device/thread.h"
#include "src/kernels/format.h"

namespace lgreco::device {

struct Bf16 {
  LGRECO_HD static constexpr std::uint16_t of(float value) { return kernels::bf16_of(value); }
  LGRECO_HD static constexpr float value(std::uint16_t bits) { return kernels::bf16_value(bits); }
};

struct F16 {
  LGRECO_HD static constexpr std::uint16_t of(float value) { return kernels::f16_of(value); }
  LGRECO_HD static constexpr float value(std::uint16_t bits) { return kernels::f16_value(bits); }
};

/// `count` values, in one run after the other.
struct Runs {
  static constexpr std::size_t kLength = 1024;  // of each but the last

  std::size_t count;

  LGRECO_HD constexpr std::size_t blocks() const { return (count + kLength - 1) / kLength; }
  LGRECO_HD constexpr std::size_t first(std::size_t block) const { return block * kLength; }
  LGRECO_HD constexpr std::size_t length(std::size_t block) const {
    const std::size_t left = count - first(block);
    return left < kLength ? left : kLength;
  }
};

/// values += residual (null: nothing), `payload` gets them rounded, and `values` keep what it does
/// not say. Sets `refused` to 1 where encode_keep_loss() returns false; all else is unspecified
/// then.
template <typename Type>
struct CastKeepLoss {
  Runs runs;
  float* values;
  const float* residual;
  std::uint8_t* payload;
  unsigned* refused;

  static constexpr int kPhases = 1;
  struct Shared {};

  std::size_t blocks() const { return runs.blocks(); }

  LGRECO_HD void run(int, const Thread& thread, Shared&) const {
    const std::size_t first = runs.first(thread.block);
    thread.share(runs.length(thread.block), [&](std::size_t i) {
      float& value = values[first + i];
      if (residual != nullptr) value += residual[first + i];
      const std::uint16_t half = Type::of(value);
      kernels::write_16(half, payload + 2 * (first + i));
      value -= Type::value(half);
      if (!std::isfinite(value)) *refused = 1;
    });
  }
};

/// accumulator += what `payload` says. Sets `refused` to 1 where decode_add() refuses the payload.
template <typename Type>
struct CastAdd {
  Runs runs;
  const std::uint8_t* payload;
  float* accumulator;
  unsigned* refused;

  static constexpr int kPhases = 1;
  struct Shared {};

  std::size_t blocks() const { return runs.blocks(); }

  LGRECO_HD void run(int, const Thread& thread, Shared&) const {
    const std::size_t first = runs.first(thread.block);
    thread.share(runs.length(thread.block), [&](std::size_t i) {
      const float value = Type::value(kernels::read_16(payload + 2 * (first + i)));
      if (!std::isfinite(value)) *refused = 1;
      accumulator[first + i] += value;
    });
  }
};

}  // namespace lgreco::device
