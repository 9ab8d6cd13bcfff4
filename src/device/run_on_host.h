// Runs a kernel on the host as a device might, at its worst: for tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <random>
#include <type_traits>
#include <vector>

#include "src/device/thread.h"

namespace lgreco::device {

inline std::vector<std::size_t> shuffled(std::size_t count, std::mt19937& random) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

/// Blocks, and in each phase the threads of a block, in random order; what they share begins as
/// garbage. `missing` is the phase after which a barrier is left out: each thread goes on at once
/// to the next phase. REQUIRES: 1 <= threads <= kMostThreads.
template <typename Kernel>
void run_on_host(const Kernel& kernel, std::size_t threads, std::mt19937& random,
                 int missing = -1) {
  using Shared = typename Kernel::Shared;
  static_assert(std::is_trivial_v<Shared>);  // a device constructs nothing there
  for (const std::size_t block : shuffled(kernel.blocks(), random)) {
    Shared shared;
    std::memset(&shared, 0xAA, sizeof shared);
    for (int phase = 0; phase < Kernel::kPhases; ++phase) {
      const int last = phase == missing ? phase + 1 : phase;
      for (const std::size_t index : shuffled(threads, random)) {
        for (int p = phase; p <= last; ++p) kernel.run(p, {block, index, threads}, shared);
      }
      phase = last;
    }
  }
}

}  // namespace lgreco::device
