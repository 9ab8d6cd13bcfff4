// Ranks as threads of one process. Every collective is: publish what this rank gives, meet, read
// the others', meet again. The second meeting keeps a fast rank from overwriting what a slow one
// still reads.

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>

#include "lgreco/communicator.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

/// What one rank shows the others during a collective.
struct Offer {
  std::span<const std::span<const std::byte>> slots;
  std::span<const std::byte> bytes;
};

class Group {
 public:
  explicit Group(int size) : offers_(static_cast<std::size_t>(size)) {}

  void publish(int rank, Offer offer, Deadline deadline) {
    offers_[static_cast<std::size_t>(rank)] = offer;
    meet(deadline);
  }
  const std::vector<Offer>& offers() const { return offers_; }

  /// Wait for all ranks. Throws PeerError when one is gone or late.
  void meet(Deadline deadline) {
    std::unique_lock lock(mutex_);
    const std::size_t generation = generation_;
    if (!broken_ && ++arrived_ == offers_.size()) {
      arrived_ = 0;
      ++generation_;
      met_.notify_all();
      return;
    }
    const bool met =
        met_.wait_until(lock, deadline, [&] { return broken_ || generation_ != generation; });
    if (generation_ != generation) return;
    broken_ = true;
    met_.notify_all();
    throw PeerError(met ? "[comm] a peer left the group during a collective"
                        : "[comm] a peer did not arrive before the deadline");
  }

  void leave() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    met_.notify_all();
  }

 private:
  std::vector<Offer> offers_;
  std::mutex mutex_;
  std::condition_variable met_;
  std::size_t arrived_ = 0;
  std::size_t generation_ = 0;
  bool broken_ = false;
};

void copy_bytes(std::span<const std::byte> from, std::span<std::byte> to) {
  if (from.size() != to.size()) {
    throw ProtocolError("[comm] received " + std::to_string(from.size()) + " bytes instead of " +
                        std::to_string(to.size()));
  }
  if (from.data() != to.data()) std::copy(from.begin(), from.end(), to.begin());
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank)
      : group_(std::move(group)), rank_(rank) {}
  ~ThreadCommunicator() override { group_->leave(); }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_->offers().size()); }

  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    group_->publish(rank_, {.slots = send, .bytes = {}}, deadline);
    for (std::size_t peer = 0; peer < receive.size(); ++peer) {
      copy_bytes(group_->offers()[peer].slots[static_cast<std::size_t>(rank_)], receive[peer]);
    }
    group_->meet(deadline);
  }

  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    group_->publish(rank_, {.slots = {}, .bytes = send}, deadline);
    for (std::size_t peer = 0; peer < receive.size(); ++peer) {
      copy_bytes(group_->offers()[peer].bytes, receive[peer]);
    }
    group_->meet(deadline);
  }

  void abort() override { group_->leave(); }

 private:
  std::shared_ptr<Group> group_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> thread_communicators(int size) {
  if (size < 1) throw ConfigError("[comm] a group needs at least one rank");
  const auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < size; ++rank) {
    communicators.push_back(std::make_unique<ThreadCommunicator>(group, rank));
  }
  return communicators;
}

}  // namespace lgreco
