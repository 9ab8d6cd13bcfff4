// Between tensors and what the core understands.
#pragma once

#include <ATen/ATen.h>

#include <span>
#include <string>
#include <vector>

#include "lgreco/bucket.h"
#include "lgreco/layer.h"

namespace lgreco {

/// Throws ConfigError naming the layer on a dtype other than fp32, bf16, fp16, on a tensor that is
/// neither on the CPU nor on an accelerator, not dense, or whose elements are not in memory of its
/// own.
LayerSpec layer_spec(const std::string& name, const at::Tensor& tensor);

at::ScalarType scalar_type(DType dtype);

/// The memory of a tensor whatever its strides; empty when it has gaps, or none.
std::span<const std::byte> memory_of(const at::Tensor& tensor);

/// A copy that any program may write to; empty for no values. `shape` is ignored then.
at::Tensor to_tensor(const std::vector<float>& values, at::IntArrayRef shape);
/// Throws StateError unless the tensor is fp32 on the CPU.
std::vector<float> to_vector(const at::Tensor& tensor);

/// Of `gradients`, those whose values on the CPU, `tensors[i]`, are all zeros are not present.
void mark_zeros_absent(std::span<const at::Tensor> tensors, std::span<Gradient> gradients);

/// Gives an Aggregator contiguous memory for tensors of any strides, and takes the results back.
/// Contiguous tensors are used in place. Only load() and store() look at elements.
class BucketTensors {
 public:
  /// `layers[i]` is the registered index of `tensors[i]`.
  BucketTensors(std::vector<at::Tensor> tensors, std::span<const std::size_t> layers);

  /// Valid while this object lives; its memory holds the tensors' elements after load().
  Bucket bucket(bool last) const;
  /// Copy the elements of tensors that are not contiguous.
  void load();
  /// After load(): of the bucket's gradients, those that are all zeros are not present.
  void mark_zeros_absent(std::span<Gradient> gradients) const;
  /// Copy the results to tensors that are not contiguous.
  void store();

 private:
  std::vector<at::Tensor> tensors_;
  std::vector<at::Tensor> contiguous_;
  std::vector<std::size_t> layers_;
};

}  // namespace lgreco
