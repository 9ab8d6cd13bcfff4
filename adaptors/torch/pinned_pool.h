// Host memory that a device copies to and from by itself, kept from step to step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <mutex>
#include <vector>

namespace lgreco {

/// Blocks of page-locked memory, which is slow to get: those of one step serve the next. Whoever
/// gives a block back may leave copies from it under way, when whoever takes it next only copies on
/// the same stream. Thread-safe.
class PinnedPool {
 public:
  /// So many bytes or more, uninitialised: the smallest idle block that fits, or a new one.
  /// Pageable, where memory cannot be locked (`is_pinned()` tells).
  at::Tensor take(std::size_t bytes);
  void give_back(at::Tensor block);

  /// Of all blocks, idle or not.
  std::size_t bytes() const;

 private:
  at::Tensor take_idle(std::size_t bytes);

  mutable std::mutex mutex_;  // of what follows
  std::vector<at::Tensor> idle_;
  std::size_t bytes_ = 0;
};

}  // namespace lgreco
