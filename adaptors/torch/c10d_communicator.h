// The communicator over a c10d process group (Gloo).
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <atomic>

#include "lgreco/communicator.h"

namespace lgreco {

/// `group` must be used by nobody else. Works without the GIL.
///
/// Messages pass through tensors of its own: a collective that was given up may go on inside Gloo
/// for a while, and must find its memory alive.
class C10dCommunicator final : public Communicator {
 public:
  explicit C10dCommunicator(c10::intrusive_ptr<c10d::ProcessGroup> group)
      : group_(std::move(group)) {}

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override;
  /// As an all-to-all of copies: messages of different length, and as many bytes as a ring.
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override;
  void abort() override { aborted_ = true; }
  /// Gloo over TCP: data and its announcement, each acknowledged, make four packets.
  std::size_t message_overhead() const override { return 340; }

 private:
  void exchange(Deadline deadline);
  void wait_for(c10d::Work& work, Deadline deadline) const;
  void receive_into(std::span<const std::span<std::byte>> slots) const;

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  at::Tensor sent_, received_;
  std::vector<std::int64_t> send_sizes_, receive_sizes_;
  std::atomic<bool> aborted_{false};
  bool broken_ = false;
};

}  // namespace lgreco
