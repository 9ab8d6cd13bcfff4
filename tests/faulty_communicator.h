// A communicator that damages what arrives: the network of the fault tests. What is expected it
// overwrites at once, as early messages may, and it holds the caller to what it expected.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "lgreco/communicator.h"

namespace lgreco {

enum class Fault { none, bit, burst, truncate, duplicate, reorder };

/// What is damaged next: the `countdown`th collective from now, once.
struct FaultPlan {
  Fault fault = Fault::none;
  int countdown = 0;
  unsigned seed = 0;
  bool was_injected = false;
};

class FaultyCommunicator final : public Communicator {
 public:
  /// `plan` must outlive the communicator; it may change between steps.
  FaultyCommunicator(std::unique_ptr<Communicator> inner, FaultPlan& plan)
      : inner_(std::move(inner)), plan_(plan) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  void abort() override { inner_->abort(); }
  void expect(std::span<const std::span<std::byte>> receive) override {
    std::mt19937 random(plan_.seed);
    for (std::size_t peer = 0; peer < receive.size(); ++peer) {
      if (peer == static_cast<std::size_t>(rank())) continue;
      for (std::byte& byte : receive[peer]) byte = static_cast<std::byte>(random());
    }
    expected_.emplace_back(receive.begin(), receive.end());
  }

  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    check_expected(receive);
    inner_->all_to_all(send, receive, deadline);
    arrived(receive);
  }
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    check_expected(receive);
    inner_->all_gather(send, receive, deadline);
    arrived(receive);
  }

 private:
  using Slots = std::vector<std::span<std::byte>>;

  void check_expected(std::span<const std::span<std::byte>> receive) {
    if (expected_.empty()) return;
    const auto same = [](std::span<std::byte> a, std::span<std::byte> b) {
      return a.data() == b.data() && a.size() == b.size();
    };
    EXPECT_TRUE(std::equal(receive.begin(), receive.end(), expected_.front().begin(),
                           expected_.front().end(), same))
        << "another collective was expected";
    expected_.pop_front();
  }

  void arrived(std::span<const std::span<std::byte>> messages) {
    const bool now = plan_.fault != Fault::none && plan_.countdown-- == 0;
    std::mt19937 random(plan_.seed);
    const auto peers = static_cast<std::size_t>(size());
    std::size_t victim = random() % peers;
    if (victim == static_cast<std::size_t>(rank())) victim = (victim + 1) % peers;
    const std::span<std::byte> message = messages[victim];
    const std::vector<std::byte> genuine(message.begin(), message.end());
    if (now && !message.empty()) {
      damage(message, messages, victim, random);
      plan_.was_injected = !std::equal(genuine.begin(), genuine.end(), message.begin());
      plan_.fault = Fault::none;
    }
    before_ = genuine;
  }

  void damage(std::span<std::byte> message, std::span<const std::span<std::byte>> messages,
              std::size_t victim, std::mt19937& random) {
    const std::size_t at = random() % message.size();
    switch (plan_.fault) {
      case Fault::none:
        return;
      case Fault::bit:
        message[at] ^= static_cast<std::byte>(1u << (random() % 8));
        return;
      case Fault::burst:
        for (std::size_t i = at; i < std::min(message.size(), at + 64); ++i) {
          message[i] = static_cast<std::byte>(random());
        }
        return;
      case Fault::truncate:  // the rest of the buffer stays empty
        std::fill(message.begin() + static_cast<std::ptrdiff_t>(at), message.end(), std::byte{0});
        return;
      case Fault::duplicate:  // the message before comes again
        std::copy_n(before_.begin(), std::min(before_.size(), message.size()), message.begin());
        return;
      case Fault::reorder:  // another rank's message in its place
        for (std::size_t other = 0; other < messages.size(); ++other) {
          if (other == victim || messages[other].empty()) continue;
          std::copy_n(messages[other].begin(), std::min(messages[other].size(), message.size()),
                      message.begin());
        }
        return;
    }
  }

  std::unique_ptr<Communicator> inner_;
  FaultPlan& plan_;
  std::vector<std::byte> before_;
  std::deque<Slots> expected_;
};

}  // namespace lgreco
