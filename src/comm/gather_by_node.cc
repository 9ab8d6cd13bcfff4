#include "lgreco/gather_by_node.h"

#include <algorithm>
#include <utility>

namespace lgreco {
namespace {

class GatherByNode final : public Communicator {
 public:
  GatherByNode(std::unique_ptr<Communicator> inner, std::vector<int> nodes)
      : inner_(std::move(inner)), nodes_(std::move(nodes)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    inner_->all_to_all(send, receive, deadline);
  }

  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    const std::span<std::byte> own = receive[index(rank())];
    if (own.data() != send.data()) std::copy(send.begin(), send.end(), own.begin());
    inside_the_node(receive, deadline);
    between_nodes(receive, deadline);
    to_the_others_of_the_node(receive, deadline);
  }

  void abort() override { inner_->abort(); }
  std::size_t message_overhead() const override { return inner_->message_overhead(); }

 private:
  using Slots = std::span<const std::span<std::byte>>;

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  bool is_here(int rank) const { return nodes_[index(rank)] == nodes_[index(this->rank())]; }
  bool is_first(int rank) const {
    return std::ranges::find(nodes_, nodes_[index(rank)]) - nodes_.begin() == rank;
  }

  void begin() {
    send_.assign(nodes_.size(), {});
    receive_.assign(nodes_.size(), {});
  }

  void inside_the_node(Slots slots, Deadline deadline) {
    begin();
    for (int peer = 0; peer < size(); ++peer) {
      if (!is_here(peer) || peer == rank()) continue;
      send_[index(peer)] = slots[index(rank())];
      receive_[index(peer)] = slots[index(peer)];
    }
    inner_->all_to_all(send_, receive_, deadline);
  }

  // Ranks that send and receive nothing take part, too, since whoever is not the first may not
  // know.
  void between_nodes(Slots slots, Deadline deadline) {
    begin();
    std::vector<std::vector<std::byte>> arrived(nodes_.size());
    const std::vector<std::byte> own = joined(slots, nodes_[index(rank())]);
    for (int peer = 0; peer < size(); ++peer) {
      if (!is_first(rank()) || !is_first(peer) || peer == rank()) continue;
      arrived[index(peer)] = joined(slots, nodes_[index(peer)]);  // of the size that will come
      send_[index(peer)] = own;
      receive_[index(peer)] = arrived[index(peer)];
    }
    inner_->all_to_all(send_, receive_, deadline);
    for (int peer = 0; peer < size(); ++peer) {
      std::span<const std::byte> left = arrived[index(peer)];
      for (int rank = 0; rank < size() && !arrived[index(peer)].empty(); ++rank) {
        if (nodes_[index(rank)] != nodes_[index(peer)]) continue;
        left = take(left, slots[index(rank)]);
      }
    }
  }

  void to_the_others_of_the_node(Slots slots, Deadline deadline) {
    begin();
    std::vector<std::byte> elsewhere;
    for (int other = 0; other < size(); ++other) {
      if (!is_here(other)) append(slots[index(other)], elsewhere);
    }
    for (int peer = 0; peer < size(); ++peer) {
      if (!is_here(peer) || peer == rank()) continue;
      if (is_first(rank())) send_[index(peer)] = elsewhere;
      if (is_first(peer)) receive_[index(peer)] = elsewhere;
    }
    inner_->all_to_all(send_, receive_, deadline);
    if (is_first(rank())) return;
    std::span<const std::byte> left = elsewhere;
    for (int other = 0; other < size(); ++other) {
      if (!is_here(other)) left = take(left, slots[index(other)]);
    }
  }

  std::vector<std::byte> joined(Slots slots, int node) const {
    std::vector<std::byte> bytes;
    for (int rank = 0; rank < size(); ++rank) {
      if (nodes_[index(rank)] == node) append(slots[index(rank)], bytes);
    }
    return bytes;
  }

  static void append(std::span<const std::byte> from, std::vector<std::byte>& to) {
    to.insert(to.end(), from.begin(), from.end());
  }

  static std::span<const std::byte> take(std::span<const std::byte> from, std::span<std::byte> to) {
    std::copy_n(from.begin(), to.size(), to.begin());
    return from.subspan(to.size());
  }

  std::unique_ptr<Communicator> inner_;
  std::vector<int> nodes_;
  std::vector<std::span<const std::byte>> send_;
  std::vector<std::span<std::byte>> receive_;
};

}  // namespace

std::unique_ptr<Communicator> gather_by_node(std::unique_ptr<Communicator> inner,
                                             std::vector<int> nodes) {
  return std::make_unique<GatherByNode>(std::move(inner), std::move(nodes));
}

}  // namespace lgreco
