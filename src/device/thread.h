// Kernels of devices, written once for host and device: phases over blocks of threads.
//
// A kernel is a plain struct of pointers into the device's memory and numbers, with
//
// * kPhases: how many phases there are;
// * Shared: memory that the threads of a block have in common, which begins undefined;
// * blocks(): how many blocks there are;
// * run(phase, thread, shared): what one thread does in one phase.
//
// Within a phase the threads of a block run in any order, or at once: none reads what another
// writes. A barrier separates phases: each ends for all threads of the block before the next
// begins. Blocks run in any order, and know nothing of each other. So the bytes depend neither on
// order nor on the number of threads, of which there are at most kMostThreads in a block. They are
// those of the codec on the CPU, which shares the formats' elements (src/kernels/format.h).
//
// adaptors/cuda runs kernels on a GPU. Tests run them on the host, threads in random order
// (run_on_host.h).
#pragma once

#include <cstddef>

#include "src/kernels/format.h"

namespace lgreco::device {

constexpr std::size_t kMostThreads = 128;

struct Thread {
  std::size_t block;
  std::size_t index;  // in its block
  std::size_t count;  // of the block's threads

  LGRECO_HD bool is_first() const { return index == 0; }

  /// Calls `work(i)` for this thread's share of [0, all).
  template <typename Work>
  LGRECO_HD void share(std::size_t all, const Work& work) const {
    for (std::size_t i = index; i < all; i += count) work(i);
  }
};

}  // namespace lgreco::device
