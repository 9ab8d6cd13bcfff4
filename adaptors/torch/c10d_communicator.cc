#include "adaptors/torch/c10d_communicator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <string>

#include "lgreco/status.h"

namespace lgreco {
namespace {

constexpr int kTagNobodySends = 0;

// Messages between two ranks with the same tag arrive in the order in which they were sent. The
// size is the tag, since Gloo ends the process that is sent more than it expects: ranks that are
// not at the same point wait for each other instead, up to the deadline.
int tag_of(std::size_t size) {
  constexpr std::size_t kTags = (std::size_t{1} << 31) - 1;
  return static_cast<int>(1 + size % (kTags - 1));
}

std::chrono::milliseconds until(Deadline deadline) {
  using Milliseconds = std::chrono::milliseconds;
  return std::max(std::chrono::ceil<Milliseconds>(deadline - Clock::now()), Milliseconds(1));
}

std::vector<at::Tensor> as_tensors(std::span<const std::byte> message) {
  auto* data = const_cast<std::byte*>(message.data());  // there are no tensors of constants
  return {at::from_blob(data, {static_cast<std::int64_t>(message.size())}, at::kByte)};
}

bool is_same(std::span<const std::span<std::byte>> a, std::span<const std::span<std::byte>> b) {
  return std::ranges::equal(a, b, [](std::span<std::byte> x, std::span<std::byte> y) {
    return x.data() == y.data() && x.size() == y.size();
  });
}

}  // namespace

void C10dCommunicator::abort() {
  const std::lock_guard lock(mutex_);
  broken_ = true;
  for (const auto& message : in_flight_) message->abort();
  close_connections();
  expected_.clear();
}

// Otherwise peers would wait for their timeout, and Gloo's thread would spin on bytes that nobody
// takes. Gloo closes all connections of a group when one message is late.
void C10dCommunicator::close_connections() const {
  std::byte never_written;
  std::vector<at::Tensor> tensors = as_tensors({&never_written, 1});
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    try {
      group_->recv(tensors, peer, kTagNobodySends)->wait(std::chrono::milliseconds(1));
    } catch (const std::exception&) {  // that it is late, or that this one is closed already
    }
  }
}

C10dCommunicator::Works C10dCommunicator::start_receiving(
    std::span<const std::span<std::byte>> receive) const {
  Works messages;
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + size() - step) % size();
    const std::span<std::byte> message = receive[static_cast<std::size_t>(peer)];
    if (message.empty()) continue;
    std::vector<at::Tensor> tensors = as_tensors(message);
    messages.push_back(group_->recv(tensors, peer, tag_of(message.size())));
  }
  return messages;
}

C10dCommunicator::Works C10dCommunicator::start_sending(
    std::span<const std::span<const std::byte>> send) const {
  Works messages;
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const std::span<const std::byte> message = send[static_cast<std::size_t>(peer)];
    if (message.empty()) continue;
    std::vector<at::Tensor> tensors = as_tensors(message);
    messages.push_back(group_->send(tensors, peer, tag_of(message.size())));
  }
  return messages;
}

void C10dCommunicator::expect(std::span<const std::span<std::byte>> receive) {
  const std::lock_guard lock(mutex_);
  try {
    require_unbroken();
    expected_.push_back({{receive.begin(), receive.end()}, start_receiving(receive)});
  } catch (const std::exception& error) {
    broken_ = true;
    throw PeerError(std::string("[comm] cannot receive: ") + error.what());
  }
}

void C10dCommunicator::exchange(std::span<const std::span<const std::byte>> send,
                                std::span<const std::span<std::byte>> receive, Deadline deadline) {
  std::optional<std::string> failure;
  try {
    start(send, receive);
    // Only this thread adds or removes messages: abort() merely reads them.
    for (const auto& message : in_flight_) {
      if (!message->wait(until(deadline))) failure = "given up";
    }
  } catch (const std::exception& error) {
    failure = error.what();
  }
  const std::lock_guard lock(mutex_);
  in_flight_.clear();  // which ends Gloo's hold of the caller's memory
  if (!failure) return;
  broken_ = true;
  expected_.clear();
  throw PeerError("[comm] exchange failed: " + *failure);
}

void C10dCommunicator::start(std::span<const std::span<const std::byte>> send,
                             std::span<const std::span<std::byte>> receive) {
  const std::lock_guard lock(mutex_);
  require_unbroken();
  if (expected_.empty()) {
    in_flight_ = start_receiving(receive);
  } else {
    if (!is_same(expected_.front().slots, receive)) {
      throw PeerError("another collective was announced");
    }
    in_flight_ = std::move(expected_.front().messages);
    expected_.pop_front();
  }
  for (auto& message : start_sending(send)) in_flight_.push_back(std::move(message));
}

void C10dCommunicator::require_unbroken() const {
  if (broken_) throw PeerError("the process group failed before; make a new one");
}

void C10dCommunicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                  std::span<const std::span<std::byte>> receive,
                                  Deadline deadline) {
  const auto own = static_cast<std::size_t>(rank());
  std::copy(send[own].begin(), send[own].end(), receive[own].begin());
  exchange(send, receive, deadline);
}

void C10dCommunicator::all_gather(std::span<const std::byte> send,
                                  std::span<const std::span<std::byte>> receive,
                                  Deadline deadline) {
  const auto own = static_cast<std::size_t>(rank());
  if (receive[own].data() != send.data()) {
    std::copy(send.begin(), send.end(), receive[own].begin());
  }
  sends_.assign(receive.size(), send);
  exchange(sends_, receive, deadline);
}

}  // namespace lgreco
