// A communicator that remembers a hash of everything it sent.
#pragma once

#include <cstdint>
#include <memory>

#include "lgreco/communicator.h"

namespace lgreco {

class RecordingCommunicator final : public Communicator {
 public:
  /// `hash` must outlive the communicator.
  RecordingCommunicator(std::unique_ptr<Communicator> inner, std::uint64_t& hash)
      : inner_(std::move(inner)), hash_(hash) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  void abort() override { inner_->abort(); }

  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    for (const auto& message : send) record(message);
    inner_->all_to_all(send, receive, deadline);
  }
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    record(send);
    inner_->all_gather(send, receive, deadline);
  }

 private:
  void record(std::span<const std::byte> message) {  // FNV-1a
    for (std::byte byte : message) {
      hash_ = (hash_ ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3u;
    }
  }

  std::unique_ptr<Communicator> inner_;
  std::uint64_t& hash_;
};

}  // namespace lgreco
