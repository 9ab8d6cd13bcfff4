#include "adaptors/torch/staged_bucket.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

namespace lgreco {

StagedBucket::StagedBucket(at::Tensor buffer, const BucketLayout& layout, bool may_be_unused,
                           CopyChannels& channels, std::shared_ptr<NodeBucket> in_node)
    : may_be_unused_(may_be_unused),
      memory_(on_host(buffer, channels)),
      in_node_(std::move(in_node)) {
  if (!in_node_ && layout.is_contiguous && !may_be_unused) {
    auto* begin = static_cast<std::byte*>(memory_.mutable_data_ptr());
    in_place_.reserve(layout.layers.size());
    for (std::size_t i = 0; i < layout.layers.size(); ++i) {
      const std::size_t offset = layout.views[i].offset * memory_.element_size();
      in_place_.push_back({.layer = layout.layers[i], .data = begin + offset});
    }
    return;
  }
  std::vector<at::Tensor> views;
  for (const BucketLayout::View& view : layout.views) {
    views.push_back(
        memory_.as_strided(view.sizes, view.strides, memory_.storage_offset() + view.offset));
  }
  if (in_node_) {
    in_place_ = in_node_->owned();
    views_ = std::move(views);
  } else {
    tensors_.emplace(std::move(views), layout.layers);
  }
}

StagedBucket::StagedBucket(std::vector<at::Tensor> tensors, std::span<const std::size_t> layers,
                           CopyChannels& channels) {
  for (at::Tensor& tensor : tensors) tensor = on_host(tensor, channels);
  tensors_.emplace(std::move(tensors), layers);
}

at::Tensor StagedBucket::on_host(const at::Tensor& tensor, CopyChannels& channels) {
  const std::shared_ptr<CopyChannel> channel = channels.of(tensor.device());
  if (!channel) return tensor;
  Staged& staged = staged_.emplace_back(tensor, std::make_unique<HostCopy>(channel, tensor));
  staged.copy->fetch(tensor);
  return staged.copy->host();
}

Bucket StagedBucket::bucket(bool last) {
  Bucket bucket{.gradients = in_place_, .last = last};
  if (tensors_) bucket = tensors_->bucket(last);
  if (tensors_ || in_node_ || !staged_.empty()) {
    bucket.fetch = [self = shared_from_this()](std::span<Gradient> gradients, Deadline deadline) {
      self->fetch(gradients, deadline);
    };
  }
  if (in_node_) {
    bucket.deliver = [self = shared_from_this()](Deadline deadline) {
      self->in_node_->spread(self->views_, deadline);
    };
  }
  return bucket;
}

void StagedBucket::fetch(std::span<Gradient> gradients, Deadline deadline) {
  for (const Staged& staged : staged_) staged.copy->wait(deadline);
  if (in_node_) {
    in_node_->sum(views_, deadline);
    if (may_be_unused_) in_node_->mark_zeros_absent(gradients);
  }
  if (!tensors_) return;
  const c10::InferenceMode any_tensor;  // only in this mode may those made in it be written to
  tensors_->load();
  if (may_be_unused_) tensors_->mark_zeros_absent(gradients);
}

void StagedBucket::store() {
  const c10::InferenceMode any_tensor;
  if (tensors_) tensors_->store();
  for (const Staged& staged : staged_) staged.copy->store(staged.tensor);
}

std::vector<c10::Stream> StagedBucket::streams() const {
  std::vector<c10::Stream> streams;
  for (const Staged& staged : staged_) streams.push_back(staged.copy->channel().stream());
  return streams;
}

void StagedBucket::let_current_streams_wait() const {
  for (const Staged& staged : staged_)
    staged.copy->channel().let_current_stream_wait(staged.tensor);
}

}  // namespace lgreco
