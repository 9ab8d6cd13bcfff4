// Node first: gradients are added up inside a node before they are compressed between nodes.
//
// Each layer has one owner among the ranks of a node, which gets the sum of the whole layer, so
// that a matrix stays one. The engine averages what a rank owns with the ranks of equal place in
// the other nodes, and the averages go back to all ranks of the node.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "adaptors/torch/shared_memory.h"
#include "lgreco/bucket.h"
#include "lgreco/communicator.h"
#include "lgreco/layer.h"

namespace lgreco {

/// The ranks of this node, and which of them owns a layer.
///
/// Its collectives are the sums of a step's buckets, in their order, on the encoder's thread (those
/// of accelerators on the caller's), and when the step has been committed the ways back, in the
/// same order, on the last lane's. The next step begins only after that. So the order is the same
/// on every rank of the node.
class Node {
 public:
  using DeviceGroup = c10::intrusive_ptr<c10d::ProcessGroup>;

  /// `group` is used by nobody else. `owners[i]` is the rank in it that owns layer i of the model.
  /// `device_group`: the same ranks, by the backend of their accelerators; null where there is none
  /// that sums there.
  Node(std::unique_ptr<Communicator> group, DeviceGroup device_group, std::vector<int> owners);

  Communicator& group() { return *group_; }
  const DeviceGroup& device_group() const { return device_group_; }
  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }
  int owner(std::size_t layer) const { return owners_[layer]; }
  /// What sums of layers of these take of memory, all buckets together, at most: without memory in
  /// common.
  std::size_t buffer_bytes(std::span<const LayerSpec> model) const;
  /// Among the layers of the same owner.
  std::size_t place(std::size_t layer) const { return places_[layer]; }

  /// This rank has a gradient in the step under way.
  void note_gradient() { has_gradient_ = true; }
  /// Whether it had one since the last call.
  bool take_has_gradient() { return has_gradient_.exchange(false); }
  /// Thread-safe: nothing waits for the other ranks any more.
  void give_up() { group_->abort(); }

 private:
  std::unique_ptr<Communicator> group_;
  DeviceGroup device_group_;
  std::vector<int> owners_;
  std::vector<std::size_t> places_;
  std::atomic<bool> has_gradient_{false};
};

/// Where the gradients of layers that come together lie in the flat memory of their owners.
struct NodeLayout {
  struct Part {
    int owner;
    std::int64_t offset, count;  // in elements of the owner's memory
  };

  /// `layers[i]`, an index of the model, is that of gradient i, with so many `elements`.
  NodeLayout(const Node& node, std::span<const std::size_t> layers,
             std::span<const std::int64_t> elements);

  std::vector<Part> parts;           // by gradient
  std::vector<std::int64_t> counts;  // elements, by owner
};

/// What the ranks of a node add up of one set of layers that come together, step after step. Each
/// looks at the others' gradients in memory that all have in common; where that cannot be, they are
/// sent. Used by one thread at a time.
class NodeBucket {
 public:
  /// `layers[i]`, an index of the model, is that of gradient i, with so many `elements`.
  NodeBucket(std::shared_ptr<Node> node, std::span<const std::size_t> layers,
             std::span<const std::int64_t> elements, at::ScalarType type);

  /// What the engine averages: the layers that this rank owns, as registered with it. Perhaps none.
  const std::vector<Gradient>& owned() const { return owned_; }

  /// Collective: owned() become the means over the node, added in fp32 in the order of its ranks
  /// and rounded once. `gradients` are in host memory, with any strides. Throws PeerError.
  void sum(const std::vector<at::Tensor>& gradients, Deadline deadline);
  /// After sum(): layers whose sums are all zeros are not present.
  void mark_zeros_absent(std::span<Gradient> owned) const;
  /// Collective: what the owners have now goes to `gradients` on every rank. Throws PeerError.
  void spread(const std::vector<at::Tensor>& gradients, Deadline deadline);

 private:
  std::vector<at::Tensor> split(std::byte* memory) const;
  at::Tensor memory_of(const NodeLayout::Part& part) const;
  std::span<std::byte> bytes_of(const at::Tensor& tensor) const;
  void pack(const std::vector<at::Tensor>& gradients);
  void find_peers(Deadline deadline);
  bool all_have(bool own, Deadline deadline) const;
  void send_addends(Deadline deadline);
  void send_means(Deadline deadline);
  void wait_for_everybody(Deadline deadline) const { all_have(true, deadline); }
  void add_up();

  std::shared_ptr<Node> node_;
  NodeLayout layout_;
  at::TensorOptions options_;
  std::unique_ptr<SharedMemory> shared_;              // of of_owner_; null: nobody else sees it
  std::vector<std::unique_ptr<SharedMemory>> peers_;  // theirs, by rank; empty: not looked for yet
  bool is_common_ = false;                            // everybody sees everybody's
  std::vector<at::Tensor> of_owner_;   // flat, this rank's gradients of what each owns; then means
  std::vector<at::Tensor> from_rank_;  // flat, of what this rank owns; none of this rank
  std::vector<at::Tensor> means_;      // flat, of what each owns
  at::Tensor sum_;                     // in fp32
  std::vector<Gradient> owned_;        // in of_owner_ of this rank
  std::vector<at::Tensor> owned_tensors_;
};

}  // namespace lgreco
