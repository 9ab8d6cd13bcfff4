// A bucket under way whose gradients the engine sees in memory of the host.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "adaptors/torch/bucket_under_way.h"
#include "adaptors/torch/host_copy.h"
#include "adaptors/torch/node_sum.h"
#include "adaptors/torch/tensor_bridge.h"

namespace lgreco {

/// Which layers' gradients lie in a buffer, and where.
struct BucketLayout {
  struct View {
    std::vector<std::int64_t> sizes, strides;
    std::int64_t offset = 0;  // in elements, from the buffer's begin
  };

  std::vector<std::size_t> layers;
  std::vector<View> views;  // of each layer
  bool is_contiguous = true;
};

/// All of its gradients, in place or copied there; summed there, too, inside a node.
class StagedBucket final : public BucketUnderWay,
                           public std::enable_shared_from_this<StagedBucket> {
 public:
  /// Begins to copy what is on an accelerator. `may_be_unused`: a gradient of zeros is none.
  /// `in_node`: of these layers; what it owns is handed to the engine. Null: all of them are.
  StagedBucket(at::Tensor buffer, const BucketLayout& layout, bool may_be_unused,
               CopyChannels& channels, std::shared_ptr<NodeBucket> in_node = nullptr);
  /// `layers[i]` is the registered index of `tensors[i]`, of any strides and each on any device.
  StagedBucket(std::vector<at::Tensor> tensors, std::span<const std::size_t> layers,
               CopyChannels& channels);

  Bucket bucket(bool last) override;
  void store() override;
  std::vector<c10::Stream> streams() const override;
  /// The caller's current streams may use the averages: what they do next comes after store().
  void let_current_streams_wait() const;

 private:
  /// A tensor on an accelerator, and its copy.
  struct Staged {
    at::Tensor tensor;
    std::unique_ptr<HostCopy> copy;
  };

  at::Tensor on_host(const at::Tensor& tensor, CopyChannels& channels);
  void fetch(std::span<Gradient> gradients, Deadline deadline);

  bool may_be_unused_ = false;
  std::vector<Staged> staged_;
  std::vector<Gradient> in_place_;        // contiguous ones in host memory, or ...
  std::optional<BucketTensors> tensors_;  // ... of any strides
  at::Tensor memory_;                     // that in_place_ points to
  std::shared_ptr<NodeBucket> in_node_;   // of which in_place_ are, then, from ...
  std::vector<at::Tensor> views_;         // ... all gradients of the bucket, in host memory
};

}  // namespace lgreco
