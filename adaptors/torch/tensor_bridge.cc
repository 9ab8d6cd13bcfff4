#include "adaptors/torch/tensor_bridge.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/EmptyTensor.h>
#include <c10/core/InferenceMode.h>

#include "adaptors/torch/float_environment.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

DType dtype_of(const std::string& name, at::ScalarType type) {
  if (type == at::kFloat) return DType::f32;
  if (type == at::kBFloat16) return DType::bf16;
  if (type == at::kHalf) return DType::f16;
  throw ConfigError("[compress] layer '" + name + "' has dtype " + c10::toString(type) +
                    "; supported are float32, bfloat16 and float16: convert the layer, or keep it "
                    "out of the synchronised parameters");
}

// Whether the elements are where sizes and strides say. Not so for Python's own kinds of tensors
// (DTensor, FakeTensor), and for a storage that was resized, as FSDP does.
bool has_memory(const at::Tensor& tensor) {
  if (tensor.unsafeGetTensorImpl()->is_python_dispatch() || !tensor.has_storage()) return false;
  if (tensor.numel() == 0) return true;
  const std::size_t needed = at::detail::computeStorageNbytes(
      tensor.sizes(), tensor.strides(), tensor.itemsize(), tensor.storage_offset());
  return tensor.storage().nbytes() >= needed && tensor.const_data_ptr() != nullptr;
}

}  // namespace

LayerSpec layer_spec(const std::string& name, const at::Tensor& tensor) {
  if (!tensor.device().is_cpu() && !at::accelerator::isAccelerator(tensor.device().type())) {
    throw ConfigError("[compress] layer '" + name + "' is on " + tensor.device().str() +
                      "; move the model to the CPU or to an accelerator");
  }
  if (tensor.layout() != at::kStrided) {
    throw ConfigError("[compress] layer '" + name +
                      "' is a sparse tensor; use a dense one (sparse=False)");
  }
  if (!has_memory(tensor)) {
    throw ConfigError("[compress] layer '" + name +
                      "' has no memory of its own (a DTensor, a fake tensor, a resized storage); "
                      "give a plain tensor, such as the local part of a DTensor (to_local())");
  }
  return {
      .name = name, .shape = tensor.sizes().vec(), .dtype = dtype_of(name, tensor.scalar_type())};
}

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return at::kFloat;
    case DType::bf16:
      return at::kBFloat16;
    case DType::f16:
      return at::kHalf;
  }
  return at::kFloat;
}

std::span<const std::byte> memory_of(const at::Tensor& tensor) {
  if (!has_memory(tensor) || !tensor.is_non_overlapping_and_dense()) return {};
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

at::Tensor to_tensor(const std::vector<float>& values, at::IntArrayRef shape) {
  const c10::InferenceMode ordinary(false);
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
  return values.empty() ? tensor : tensor.view(shape);
}

std::vector<float> to_vector(const at::Tensor& tensor) {
  if (!tensor.device().is_cpu() || tensor.scalar_type() != at::kFloat) {
    throw StateError("[state] tensors of a saved state are float32 on the CPU");
  }
  const at::Tensor flat = tensor.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

void mark_zeros_absent(std::span<const at::Tensor> tensors, std::span<Gradient> gradients) {
  const DefaultFloatEnvironment environment;  // a gradient of denormals is no zero
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    gradients[i].present = tensors[i].any().item<bool>();
  }
}

BucketTensors::BucketTensors(std::vector<at::Tensor> tensors, std::span<const std::size_t> layers)
    : tensors_(std::move(tensors)), layers_(layers.begin(), layers.end()) {
  for (const at::Tensor& tensor : tensors_) {
    contiguous_.push_back(tensor.is_contiguous() ? tensor
                                                 : at::empty(tensor.sizes(), tensor.options()));
  }
}

Bucket BucketTensors::bucket(bool last) const {
  Bucket bucket{.gradients = {}, .last = last};
  for (std::size_t i = 0; i < contiguous_.size(); ++i) {
    bucket.gradients.push_back({.layer = layers_[i], .data = contiguous_[i].data_ptr()});
  }
  return bucket;
}

void BucketTensors::load() {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (!tensors_[i].is_alias_of(contiguous_[i])) contiguous_[i].copy_(tensors_[i]);
  }
}

void BucketTensors::mark_zeros_absent(std::span<Gradient> gradients) const {
  lgreco::mark_zeros_absent(contiguous_, gradients);
}

void BucketTensors::store() {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (!tensors_[i].is_alias_of(contiguous_[i])) tensors_[i].copy_(contiguous_[i]);
  }
}

}  // namespace lgreco
