#include "adaptors/torch/pinned_pool.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace lgreco {
namespace {

at::Tensor new_block(std::size_t bytes) {
  const c10::InferenceMode ordinary(false);  // blocks serve callers in and outside of it
  const auto count = static_cast<std::int64_t>(bytes);
  const auto options = at::TensorOptions(at::kByte).device(at::kCPU);
  try {
    return at::empty({count}, options.pinned_memory(true));
  } catch (const c10::Error&) {  // a limit of the system, or a device without such memory
    return at::empty({count}, options);
  }
}

}  // namespace

at::Tensor PinnedPool::take(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  at::Tensor block = take_idle(bytes);
  if (block.defined()) return block;
  // Buckets are cut anew: what is idle now was for those before, and would stay for ever.
  for (const at::Tensor& idle : idle_) bytes_ -= idle.nbytes();
  idle_.clear();
  block = new_block(bytes);
  bytes_ += block.nbytes();
  return block;
}

at::Tensor PinnedPool::take_idle(std::size_t bytes) {
  auto best = idle_.end();
  for (auto block = idle_.begin(); block != idle_.end(); ++block) {
    if (block->nbytes() < bytes) continue;
    if (best == idle_.end() || block->nbytes() < best->nbytes()) best = block;
  }
  if (best == idle_.end()) return {};
  at::Tensor block = std::move(*best);
  idle_.erase(best);
  return block;
}

void PinnedPool::give_back(at::Tensor block) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(block));
}

std::size_t PinnedPool::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace lgreco
