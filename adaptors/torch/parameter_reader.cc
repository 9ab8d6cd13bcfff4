#include "adaptors/torch/parameter_reader.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <map>

#include "adaptors/torch/tensor_bridge.h"

namespace lgreco {

bool ParameterReader::is_any_elsewhere() const {
  return std::ranges::any_of(parameters_, [](const at::Tensor& p) { return !p.is_cpu(); });
}

std::span<const std::byte> ParameterReader::whole(std::size_t layer) {
  const at::Tensor& parameter = parameters_[layer];
  const auto channel = channels_->of(parameter.device());
  if (!channel) return memory_of(parameter);
  const c10::InferenceMode without_autograd;
  const c10::StreamGuard on_stream(channel->stream());
  copy_ = parameter.to(at::kCPU);
  return memory_of(copy_);
}

std::vector<float> ParameterReader::sample() const {
  constexpr std::size_t kLayers = 64;
  const c10::InferenceMode without_autograd;
  const std::size_t stride = (parameters_.size() + kLayers - 1) / kLayers;
  std::map<c10::DeviceIndex, std::vector<at::Tensor>> elements;  // by device; the CPU's is -1
  for (std::size_t layer = 0; layer < parameters_.size(); layer += stride) {
    const at::Tensor& parameter = parameters_[layer];
    if (parameter.numel() == 0 || !parameter.is_non_overlapping_and_dense()) continue;
    for (const std::int64_t at : {std::int64_t{0}, parameter.numel() / 2}) {
      elements[parameter.device().index()].push_back(
          parameter.as_strided({1}, {1}, parameter.storage_offset() + at));
    }
  }
  std::vector<float> sample;
  for (const auto& [device, of_device] : elements) {
    const auto channel = channels_->of(of_device.front().device());
    c10::OptionalStreamGuard on_stream;
    if (channel) on_stream.reset_stream(channel->stream());
    const at::Tensor values = at::cat(of_device).to(at::kCPU, at::kFloat);
    const float* begin = values.const_data_ptr<float>();
    sample.insert(sample.end(), begin, begin + values.numel());
  }
  return sample;
}

}  // namespace lgreco
