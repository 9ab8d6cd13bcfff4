#include "adaptors/torch/node_sum.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string>

#include "adaptors/torch/float_environment.h"
#include "adaptors/torch/tensor_bridge.h"
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
    : node_(std::move(node)),
      layout_(*node_, layers, elements),
      options_(at::TensorOptions(at::kCPU).dtype(type)) {
  const c10::InferenceMode ordinary(false);
  std::int64_t all = 0;
  for (const std::int64_t count : layout_.counts) all += count;
  shared_ = SharedMemory::make(static_cast<std::size_t>(all) * at::elementSize(type));
  if (shared_) {
    of_owner_ = split(shared_->bytes().data());
  } else {
    for (const std::int64_t count : layout_.counts)
      of_owner_.push_back(at::empty({count}, options_));
  }
  const at::Tensor& own = of_owner_[static_cast<std::size_t>(node_->rank())];
  sum_ =
      own.scalar_type() == at::kFloat ? own : at::empty_like(own, own.options().dtype(at::kFloat));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layout_.parts[i].owner != node_->rank()) continue;
    owned_tensors_.push_back(memory_of(layout_.parts[i]));
    owned_.push_back(
        {.layer = node_->place(layers[i]), .data = owned_tensors_.back().mutable_data_ptr()});
  }
}

// What each owns, one after the other.
std::vector<at::Tensor> NodeBucket::split(std::byte* memory) const {
  std::vector<at::Tensor> parts;
  for (const std::int64_t count : layout_.counts) {
    parts.push_back(at::from_blob(memory, {count}, options_));
    memory += parts.back().nbytes();
  }
  return parts;
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
  if (peers_.empty()) find_peers(deadline);
  is_common_ ? wait_for_everybody(deadline) : send_addends(deadline);
  add_up();
}

// All look at each other's memory, or nobody does.
void NodeBucket::find_peers(Deadline deadline) {
  const auto ranks = static_cast<std::size_t>(node_->size());
  const auto rank = static_cast<std::size_t>(node_->rank());
  std::vector<SharedMemory::Address> addresses(ranks);
  if (shared_) addresses[rank] = shared_->address();
  std::vector<std::span<std::byte>> slots;
  slots.reserve(ranks);
  for (SharedMemory::Address& address : addresses) {
    slots.push_back(std::as_writable_bytes(std::span(&address, 1)));
  }
  node_->group().all_gather(slots[rank], slots, deadline);
  std::vector<std::unique_ptr<SharedMemory>> peers(ranks);
  bool sees_all = shared_ != nullptr;
  for (std::size_t peer = 0; peer < ranks && sees_all; ++peer) {
    if (peer == rank) continue;
    sees_all = addresses[peer].bytes == addresses[rank].bytes;
    if (sees_all) peers[peer] = SharedMemory::open(addresses[peer]);
    sees_all = sees_all && peers[peer] != nullptr;
  }
  const bool is_common = all_have(sees_all, deadline);
  if (shared_) shared_->hide();
  std::vector<at::Tensor> from_rank(ranks), means = of_owner_;
  for (std::size_t peer = 0; peer < ranks; ++peer) {
    if (peer == rank) continue;
    if (is_common) {
      const std::vector<at::Tensor> theirs = split(peers[peer]->bytes().data());
      from_rank[peer] = theirs[rank];
      means[peer] = theirs[peer];
    } else {
      from_rank[peer] = at::empty_like(of_owner_[rank]);
    }
  }
  from_rank_ = std::move(from_rank);
  means_ = std::move(means);
  is_common_ = is_common;
  peers_ = std::move(peers);  // last: nothing has failed
}

// Whether everybody says so, which each knows once all have spoken.
bool NodeBucket::all_have(bool own, Deadline deadline) const {
  std::vector<std::byte> said(static_cast<std::size_t>(node_->size()));
  std::vector<std::span<std::byte>> slots;
  slots.reserve(said.size());
  for (std::byte& one : said) slots.emplace_back(&one, 1);
  const auto rank = static_cast<std::size_t>(node_->rank());
  said[rank] = std::byte{own};
  node_->group().all_gather(slots[rank], slots, deadline);
  return std::ranges::count(said, std::byte{1}) == node_->size();
}

void NodeBucket::send_addends(Deadline deadline) {
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> receive;
  for (int rank = 0; rank < node_->size(); ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    const bool is_own = rank == node_->rank();
    receive.push_back(is_own ? std::span<std::byte>() : bytes_of(from_rank_[at]));
    send.push_back(is_own ? std::span<std::byte>() : bytes_of(of_owner_[at]));
  }
  node_->group().all_to_all(send, receive, deadline);
}

void NodeBucket::send_means(Deadline deadline) {
  std::vector<std::span<std::byte>> receive;
  for (const at::Tensor& means : means_) receive.push_back(bytes_of(means));
  node_->group().all_gather(receive[static_cast<std::size_t>(node_->rank())], receive, deadline);
}

// The order is that of the ranks, not that of arrival, and this rank's own memory is both an addend
// and, for fp32, the result: before its turn the sum is kept where rank 0's addend was.
void NodeBucket::add_up() {
  const int own = node_->rank();
  const at::Tensor& mine = of_owner_[static_cast<std::size_t>(own)];
  const auto addend = [&](int rank) -> const at::Tensor& {
    return rank == own ? mine : from_rank_[static_cast<std::size_t>(rank)];
  };
  const bool is_in_place = sum_.is_same(mine);
  if (!is_in_place) sum_.copy_(addend(0));
  at::Tensor so_far = is_in_place ? addend(0) : sum_;
  for (int rank = 1; rank < node_->size(); ++rank) {
    at::Tensor next = is_in_place && rank < own ? from_rank_[0] : sum_;
    at::add_out(next, so_far, addend(rank));
    so_far = next;
  }
  sum_.mul_(1.0 / node_->size());
  if (!is_in_place) mine.copy_(sum_);
}

void NodeBucket::mark_zeros_absent(std::span<Gradient> owned) const {
  lgreco::mark_zeros_absent(owned_tensors_, owned);
}

// In common memory nobody writes to the next step's gradients before all have seen these means. Of
// the sums, the commit of the step has told the same.
void NodeBucket::spread(const std::vector<at::Tensor>& gradients, Deadline deadline) {
  const c10::InferenceMode any_tensor;
  is_common_ ? wait_for_everybody(deadline) : send_means(deadline);
  for (std::size_t i = 0; i < layout_.parts.size(); ++i) {
    const NodeLayout::Part& part = layout_.parts[i];
    const at::Tensor& means = means_[static_cast<std::size_t>(part.owner)];
    gradients[i].copy_(means.narrow(0, part.offset, part.count).view(gradients[i].sizes()));
  }
  if (is_common_) wait_for_everybody(deadline);
}

}  // namespace lgreco
