#include "adaptors/torch/device_node_sum.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include "adaptors/torch/tensor_bridge.h"

namespace lgreco {

DeviceNodeSum::DeviceNodeSum(const at::Tensor& buffer, const BucketLayout& layout,
                             std::shared_ptr<const NodeLayout> parts, std::shared_ptr<Node> node,
                             std::shared_ptr<CopyChannel> channel, bool may_be_unused)
    : parts_(std::move(parts)),
      node_(std::move(node)),
      channel_(std::move(channel)),
      may_be_unused_(may_be_unused),
      equal_(parts_->counts.size(), parts_->counts[static_cast<std::size_t>(node_->rank())]) {
  channel_->wait_for_current_stream(buffer);
  const c10::InferenceMode any_tensor;
  const c10::StreamGuard on_stream(channel_->stream());
  for (const BucketLayout::View& view : layout.views) {
    views_.push_back(
        buffer.as_strided(view.sizes, view.strides, buffer.storage_offset() + view.offset));
  }
  add_up();
  copy_.emplace(channel_, means_);
  copy_->fetch(means_);
  for (std::size_t i = 0; i < layout.layers.size(); ++i) {
    const NodeLayout::Part& part = parts_->parts[i];
    if (part.owner != node_->rank()) continue;
    owned_tensors_.push_back(copy_->host().narrow(0, part.offset, part.count));
    owned_.push_back({.layer = node_->place(layout.layers[i]),
                      .data = owned_tensors_.back().mutable_data_ptr()});
  }
}

// In the order of the ranks and in fp32, rounded once, as on the host.
void DeviceNodeSum::add_up() {
  std::int64_t all = 0;
  for (const std::int64_t count : parts_->counts) all += count;
  packed_ = at::empty({all}, views_.at(0).options());
  for (std::size_t i = 0; i < views_.size(); ++i) part_of(packed_, i).copy_(views_[i]);
  const at::Tensor has_any = packed_.ne(0).any();
  has_any_.emplace(channel_, has_any);
  has_any_->fetch(has_any);

  const std::int64_t own = equal_[0];
  of_each_ = at::empty({node_->size(), own}, packed_.options());
  all_to_all(of_each_, equal_, packed_, parts_->counts);
  at::Tensor sum = of_each_[0].to(at::kFloat, /*non_blocking=*/true, /*copy=*/true);
  for (int rank = 1; rank < node_->size(); ++rank) sum.add_(of_each_[rank]);
  sum.mul_(1.0 / node_->size());
  means_ = sum.to(packed_.scalar_type());
}

Bucket DeviceNodeSum::bucket(bool last) {
  const auto self = shared_from_this();
  return {.gradients = owned_,
          .last = last,
          .fetch = [self](std::span<Gradient> gradients,
                          Deadline deadline) { self->fetch(gradients, deadline); },
          .deliver = [self](Deadline) { self->deliver(); }};
}

void DeviceNodeSum::fetch(std::span<Gradient> gradients, Deadline deadline) {
  const c10::InferenceMode any_tensor;
  copy_->wait(deadline);
  has_any_->wait(deadline);
  if (has_any_->host().item<bool>()) node_->note_gradient();
  if (may_be_unused_) mark_zeros_absent(owned_tensors_, gradients);
}

void DeviceNodeSum::deliver() {
  const c10::InferenceMode any_tensor;
  copy_->store(means_);
  const c10::StreamGuard on_stream(channel_->stream());
  of_each_.copy_(means_.expand_as(of_each_));
  at::Tensor send = of_each_.view({-1});
  all_to_all(packed_, parts_->counts, send, equal_);
  for (std::size_t i = 0; i < views_.size(); ++i) views_[i].copy_(part_of(packed_, i));
}

at::Tensor DeviceNodeSum::part_of(const at::Tensor& packed, std::size_t gradient) const {
  const NodeLayout::Part& part = parts_->parts[gradient];
  std::int64_t begin = part.offset;
  for (int owner = 0; owner < part.owner; ++owner) {
    begin += parts_->counts[static_cast<std::size_t>(owner)];
  }
  return packed.narrow(0, begin, part.count).view(views_[gradient].sizes());
}

// The stream waits for it, and not this thread.
void DeviceNodeSum::all_to_all(at::Tensor& receive, const std::vector<std::int64_t>& received,
                               at::Tensor& send, const std::vector<std::int64_t>& sent) const {
  at::Tensor flat = receive.view({-1});
  std::vector<std::int64_t> from = received, to = sent;
  node_->device_group()->alltoall_base(flat, send, from, to)->wait();
}

}  // namespace lgreco
