#include "adaptors/torch/node_sum.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string>

#include "adaptors/torch/float_environment.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

// Most gradients show at once that they are not zero.
bool has_any(const at::Tensor& flat) {
  const auto* begin = static_cast<const std::byte*>(flat.const_data_ptr());
  return std::any_of(begin, begin + flat.nbytes(),
                     [](std::byte one) { return one != std::byte{0}; });
}

}  // namespace

Node::Node(std::unique_ptr<Communicator> group, DeviceGroup device_group, std::vector<int> owners)
    : group_(std::move(group)), device_group_(std::move(device_group)), owners_(std::move(owners)) {
  std::vector<std::size_t> owned(static_cast<std::size_t>(size()));
  for (const int owner : owners_) places_.push_back(owned[static_cast<std::size_t>(owner)]++);
}

std::size_t Node::buffer_bytes(std::span<const LayerSpec> model) const {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < model.size(); ++i) {
    const std::size_t gradient = model[i].count() * size_of(model[i].dtype);
    bytes += gradient;
    if (owner(i) != rank()) continue;
    bytes += gradient * static_cast<std::size_t>(size() - 1);
    if (model[i].dtype != DType::f32) bytes += model[i].count() * sizeof(float);
  }
  return bytes;
}

NodeLayout::NodeLayout(const Node& node, std::span<const std::size_t> layers,
                       std::span<const std::int64_t> elements)
    : counts(static_cast<std::size_t>(node.size())) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const int owner = node.owner(layers[i]);
    std::int64_t& count = counts[static_cast<std::size_t>(owner)];
    parts.push_back({owner, count, elements[i]});
    count += elements[i];
  }
}

NodeBucket::NodeBucket(std::shared_ptr<Node> node, std::span<const std::size_t> layers,
                       std::span<const std::int64_t> elements, at::ScalarType type)
    : node_(std::move(node)), layout_(*node_, layers, elements) {
  const c10::InferenceMode ordinary(false);
  const at::TensorOptions options = at::TensorOptions(at::kCPU).dtype(type);
  for (const std::int64_t count : layout_.counts) of_owner_.push_back(at::empty({count}, options));
  const at::Tensor& own = of_owner_[static_cast<std::size_t>(node_->rank())];
  for (int rank = 0; rank < node_->size(); ++rank) {
    from_rank_.push_back(rank == node_->rank() ? at::empty({0}, options) : at::empty_like(own));
  }
  sum_ =
      own.scalar_type() == at::kFloat ? own : at::empty_like(own, own.options().dtype(at::kFloat));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layout_.parts[i].owner != node_->rank()) continue;
    owned_tensors_.push_back(memory_of(layout_.parts[i]));
    owned_.push_back(
        {.layer = node_->place(layers[i]), .data = owned_tensors_.back().mutable_data_ptr()});
  }
}

at::Tensor NodeBucket::memory_of(const NodeLayout::Part& part) const {
  return of_owner_[static_cast<std::size_t>(part.owner)].narrow(0, part.offset, part.count);
}

std::span<std::byte> NodeBucket::bytes_of(const at::Tensor& tensor) const {
  return {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()};
}

void NodeBucket::pack(const std::vector<at::Tensor>& gradients) {
  for (std::size_t i = 0; i < layout_.parts.size(); ++i) {
    memory_of(layout_.parts[i]).view(gradients[i].sizes()).copy_(gradients[i]);
  }
  if (std::ranges::any_of(of_owner_, has_any)) node_->note_gradient();
}

void NodeBucket::sum(const std::vector<at::Tensor>& gradients, Deadline deadline) {
  const DefaultFloatEnvironment environment;
  const c10::InferenceMode any_tensor;
  pack(gradients);
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> receive;
  for (int rank = 0; rank < node_->size(); ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    receive.push_back(bytes_of(from_rank_[at]));
    send.push_back(rank == node_->rank() ? std::span<std::byte>() : bytes_of(of_owner_[at]));
  }
  node_->group().all_to_all(send, receive, deadline);
  add_up();
}

// The order is that of the ranks, not that of arrival, and this rank's own memory is both an addend
// and the result.
void NodeBucket::add_up() {
  const int own = node_->rank();
  const at::Tensor& mine = of_owner_[static_cast<std::size_t>(own)];
  const auto addend = [&](int rank) -> const at::Tensor& {
    return rank == own ? mine : from_rank_[static_cast<std::size_t>(rank)];
  };
  if (own == 0 || !sum_.is_same(mine)) {
    if (!sum_.is_same(addend(0))) sum_.copy_(addend(0));
    for (int rank = 1; rank < node_->size(); ++rank) sum_.add_(addend(rank));
  } else {
    at::Tensor& first = from_rank_[0];
    for (int rank = 1; rank < node_->size(); ++rank) first.add_(addend(rank));
    sum_.copy_(first);
  }
  sum_.mul_(1.0 / node_->size());
  if (!sum_.is_same(mine)) mine.copy_(sum_);
}

void NodeBucket::mark_zeros_absent(std::span<Gradient> owned) const {
  const DefaultFloatEnvironment environment;  // a gradient of denormals is no zero
  for (std::size_t i = 0; i < owned.size(); ++i) {
    owned[i].present = owned_tensors_[i].any().item<bool>();
  }
}

void NodeBucket::spread(const std::vector<at::Tensor>& gradients, Deadline deadline) {
  const c10::InferenceMode any_tensor;
  std::vector<std::span<std::byte>> receive;
  for (const at::Tensor& means : of_owner_) receive.push_back(bytes_of(means));
  node_->group().all_gather(receive[static_cast<std::size_t>(node_->rank())], receive, deadline);
  for (std::size_t i = 0; i < layout_.parts.size(); ++i) {
    gradients[i].copy_(memory_of(layout_.parts[i]).view(gradients[i].sizes()));
  }
}

}  // namespace lgreco
