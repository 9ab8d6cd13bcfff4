// Parameters on any device, as the engine looks at them: in host memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "adaptors/torch/host_copy.h"

namespace lgreco {

/// Reads of an accelerator come after what was fetched from it in this step (CopyChannel), so that
/// they see what the optimizer has made of the step before. Used by one thread at a time.
class ParameterReader {
 public:
  ParameterReader(std::vector<at::Tensor> parameters, std::shared_ptr<CopyChannels> channels)
      : parameters_(std::move(parameters)), channels_(std::move(channels)) {}

  /// Whether some parameter is on an accelerator.
  bool is_any_elsewhere() const;
  /// All of one; valid until the next call.
  std::span<const std::byte> whole(std::size_t layer);
  /// Two elements each of 64 layers at most: one copy from each device.
  std::vector<float> sample() const;

 private:
  std::vector<at::Tensor> parameters_;
  std::shared_ptr<CopyChannels> channels_;
  at::Tensor copy_;
};

}  // namespace lgreco
