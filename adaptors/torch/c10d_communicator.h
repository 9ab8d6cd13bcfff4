// The communicator over a c10d process group (Gloo).
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <deque>
#include <mutex>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/network.h"

namespace lgreco {

/// `group` must be used by nobody else. Works without the GIL.
///
/// Both collectives are messages from each rank to each, sent from and received into the caller's
/// memory. Gloo's own would copy it and wake another thread; its all-gather sends no messages of
/// different length, and its all-to-all uses one direction of a link at a time.
class C10dCommunicator final : public Communicator {
 public:
  explicit C10dCommunicator(c10::intrusive_ptr<c10d::ProcessGroup> group)
      : group_(std::move(group)) {}

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override;
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override;
  void expect(std::span<const std::span<std::byte>> receive) override;
  void abort() override;
  std::size_t message_overhead() const override { return kGlooMessageBytes; }

 private:
  using Works = std::vector<c10::intrusive_ptr<c10d::Work>>;
  struct Expected {
    std::vector<std::span<std::byte>> slots;
    Works messages;
  };

  void exchange(std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive, Deadline deadline);
  void close_connections() const;
  Works start_receiving(std::span<const std::span<std::byte>> receive) const;
  Works start_sending(std::span<const std::span<const std::byte>> send) const;
  void start(std::span<const std::span<const std::byte>> send,
             std::span<const std::span<std::byte>> receive);
  void require_unbroken() const;

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  std::vector<std::span<const std::byte>> sends_;
  std::mutex mutex_;  // of what follows
  Works in_flight_;
  std::deque<Expected> expected_;
  bool broken_ = false;
};

}  // namespace lgreco
