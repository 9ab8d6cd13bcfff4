// The communicator over a c10d process group (Gloo).
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "lgreco/communicator.h"

namespace lgreco {

/// `group` must be used by nobody else. `timeout` bounds every single collective.
/// Works without the GIL.
class C10dCommunicator final : public Communicator {
 public:
  C10dCommunicator(c10::intrusive_ptr<c10d::ProcessGroup> group, std::chrono::milliseconds timeout);

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }
  void all_reduce(std::span<float> values) override;
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive) override;
  /// As an all-to-all of copies: messages of different length, and as many bytes as a ring.
  void all_gather(std::span<const std::byte> send,
                  std::span<const std::span<std::byte>> receive) override;
  /// Gloo over TCP: data and its announcement, each acknowledged, make four packets.
  std::size_t message_overhead() const override { return 340; }

 private:
  void wait_for(const c10::intrusive_ptr<c10d::Work>& work);
  void exchange_bytes(at::Tensor send, std::vector<std::int64_t> send_sizes, at::Tensor receive,
                      std::vector<std::int64_t> receive_sizes);

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  std::chrono::milliseconds timeout_;
  bool broken_ = false;
};

}  // namespace lgreco
