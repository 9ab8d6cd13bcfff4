// Node first where gradients are on an accelerator: they are added up there, by its own backend,
// and only what this rank owns of the sum is copied to the host.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "adaptors/torch/bucket_under_way.h"
#include "adaptors/torch/host_copy.h"
#include "adaptors/torch/node_sum.h"
#include "adaptors/torch/staged_bucket.h"

namespace lgreco {

/// A bucket under way. Everything on the device is enqueued on the channel's stream, the sum at
/// once, the way back when the step has been committed, and nobody waits for it but fetch(), until
/// its deadline. The bits are those of NodeBucket.
class DeviceNodeSum final : public BucketUnderWay,
                            public std::enable_shared_from_this<DeviceNodeSum> {
 public:
  /// Collective, of the node's device group. `parts` is of the layers of `layout`.
  DeviceNodeSum(const at::Tensor& buffer, const BucketLayout& layout,
                std::shared_ptr<const NodeLayout> parts, std::shared_ptr<Node> node,
                std::shared_ptr<CopyChannel> channel, bool may_be_unused);

  /// The layers that this rank owns, as the engine has them; perhaps none.
  Bucket bucket(bool last) override;
  void store() override {}  // delivered
  std::vector<c10::Stream> streams() const override { return {channel_->stream()}; }

 private:
  void add_up();
  void fetch(std::span<Gradient> gradients, Deadline deadline);
  void deliver();
  at::Tensor part_of(const at::Tensor& packed, std::size_t gradient) const;
  /// Sends `sent[r]` elements of `send` to rank r of the node, and gets `received[r]` from it.
  void all_to_all(at::Tensor& receive, const std::vector<std::int64_t>& received, at::Tensor& send,
                  const std::vector<std::int64_t>& sent) const;

  std::shared_ptr<const NodeLayout> parts_;
  std::shared_ptr<Node> node_;
  std::shared_ptr<CopyChannel> channel_;
  bool may_be_unused_;
  std::vector<at::Tensor> views_;    // of all gradients
  std::vector<std::int64_t> equal_;  // elements that this rank owns, once for each rank
  at::Tensor packed_;                // all gradients by owner; then all averages
  at::Tensor of_each_;  // what this rank owns, of each rank; then the averages for each
  at::Tensor means_;    // over the node, of what this rank owns
  std::optional<HostCopy> copy_, has_any_;  // of means_; of whether this rank has a gradient
  std::vector<Gradient> owned_;
  std::vector<at::Tensor> owned_tensors_;  // of owned_, in memory of the host
};

}  // namespace lgreco
