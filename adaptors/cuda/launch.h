// Runs the kernels of src/device on a CUDA device. For nvcc alone.
#pragma once

#include <cuda_runtime.h>

#include "src/device/thread.h"

namespace lgreco::cuda {

template <typename Kernel>
__global__ void __launch_bounds__(device::kMostThreads) run_phases(const Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  const device::Thread thread{blockIdx.x, threadIdx.x, blockDim.x};
#pragma unroll
  for (int phase = 0; phase < Kernel::kPhases; ++phase) {
    if (phase > 0) __syncthreads();
    kernel.run(phase, thread, shared);
  }
}

/// Enqueues the kernel; what it points to is the device's memory. The error is that of the launch.
/// REQUIRES: fewer than 2^31 blocks.
template <typename Kernel>
cudaError_t launch(const Kernel& kernel, cudaStream_t stream) {
  if (kernel.blocks() == 0) return cudaSuccess;
  run_phases<<<static_cast<unsigned>(kernel.blocks()), device::kMostThreads, 0, stream>>>(kernel);
  return cudaGetLastError();
}

}  // namespace lgreco::cuda
