// Ranks as threads of one process. Every collective is: publish what this rank gives, meet, read
// the others', wait until all have read. Nobody may leave before: others still read what it gave.

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>

#include "lgreco/communicator.h"
#include "lgreco/process.h"
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

  int size() const { return static_cast<int>(offers_.size()); }

  /// `read(offers)` is called when all ranks have made theirs. Throws PeerError when one is gone or
  /// late, and what `read` throws.
  template <typename Read>
  void exchange(int rank, const Offer& offer, Deadline deadline, const Read& read) {
    offers_[static_cast<std::size_t>(rank)] = offer;
    meet(deadline);
    std::exception_ptr failure;
    try {
      read(offers_);
    } catch (...) {
      failure = std::current_exception();
      leave();
    }
    wait_for_readers();
    if (failure) std::rethrow_exception(failure);
  }

  void leave() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    changed_.notify_all();
  }

 private:
  void meet(Deadline deadline) {
    std::unique_lock lock(mutex_);
    const std::size_t generation = generation_;
    if (!broken_ && ++arrived_ == offers_.size()) {
      arrived_ = 0;
      reading_ = offers_.size();
      ++generation_;
      changed_.notify_all();
      return;
    }
    const bool in_time =
        changed_.wait_until(lock, deadline, [&] { return broken_ || generation_ != generation; });
    if (generation_ != generation) return;
    broken_ = true;
    changed_.notify_all();
    throw PeerError(in_time ? "[comm] a peer left the group during a collective"
                            : "[comm] a peer did not arrive before the deadline");
  }

  // Short, whatever happens: all ranks have met, and read what is in memory.
  void wait_for_readers() {
    std::unique_lock lock(mutex_);
    if (--reading_ == 0) changed_.notify_all();
    changed_.wait(lock, [this] { return reading_ == 0; });
  }

  std::vector<Offer> offers_;
  std::mutex mutex_;
  std::condition_variable changed_;  // one of the following
  std::size_t arrived_ = 0;
  std::size_t reading_ = 0;
  std::size_t generation_ = 0;
  bool broken_ = false;
};

void copy_bytes(std::span<const std::byte> from, std::span<std::byte> to) {
  if (from.size() != to.size()) {
    throw PeerError("[comm] a peer sent " + std::to_string(from.size()) + " bytes instead of " +
                    std::to_string(to.size()));
  }
  if (from.data() != to.data()) std::copy(from.begin(), from.end(), to.begin());
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank)
      : size_(group->size()), rank_(rank), group_(std::move(group)) {}
  ~ThreadCommunicator() override { abort(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    exchange(
        {.slots = send, .bytes = {}}, receive, deadline,
        [rank = static_cast<std::size_t>(rank_)](const Offer& offer) { return offer.slots[rank]; });
  }

  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    exchange({.slots = {}, .bytes = send}, receive, deadline,
             [](const Offer& offer) { return offer.bytes; });
  }

  void abort() override {
    if (group_.is_here()) group_.get("[comm]")->leave();
  }

 private:
  /// `part(offer)` is what this rank receives of it.
  template <typename Part>
  void exchange(const Offer& offer, std::span<const std::span<std::byte>> receive,
                Deadline deadline, const Part& part) {
    group_.get("[comm]")->exchange(rank_, offer, deadline, [&](const std::vector<Offer>& offers) {
      for (std::size_t peer = 0; peer < receive.size(); ++peer) {
        copy_bytes(part(offers[peer]), receive[peer]);
      }
    });
  }

  int size_;
  int rank_;
  WhereMade<std::shared_ptr<Group>> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> thread_communicators(int size) {
  if (size < 1) throw ConfigError("[comm] a group needs at least one rank");
  const auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  communicators.reserve(static_cast<std::size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    communicators.push_back(std::make_unique<ThreadCommunicator>(group, rank));
  }
  return communicators;
}

}  // namespace lgreco
