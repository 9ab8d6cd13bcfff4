#include "adaptors/torch/c10d_communicator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "lgreco/status.h"

namespace lgreco {
namespace {

constexpr int kTag = 0;  // messages between two ranks arrive in the order in which they were sent

std::chrono::milliseconds until(Deadline deadline) {
  using Milliseconds = std::chrono::milliseconds;
  return std::max(std::chrono::ceil<Milliseconds>(deadline - Clock::now()), Milliseconds(1));
}

std::vector<at::Tensor> as_tensors(std::span<const std::byte> message) {
  auto* data = const_cast<std::byte*>(message.data());  // there are no tensors of constants
  return {at::from_blob(data, {static_cast<std::int64_t>(message.size())}, at::kByte)};
}

// Gloo closes its connections when a message is late, as one that was given up is. Otherwise peers
// would wait for their timeout, and Gloo's thread would spin on bytes that nobody takes.
void close_connections_of(c10d::Work& message) {
  try {
    message.wait(std::chrono::milliseconds(1));
  } catch (const std::exception&) {  // that it is late
  }
}

}  // namespace

void C10dCommunicator::abort() {
  const std::lock_guard lock(mutex_);
  broken_ = true;
  for (const auto& message : in_flight_) message->abort();
  for (const Works& messages : expected_) {
    for (const auto& message : messages) close_connections_of(*message);
  }
  expected_.clear();
}

C10dCommunicator::Works C10dCommunicator::start_receiving(
    std::span<const std::span<std::byte>> receive) const {
  Works messages;
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + size() - step) % size();
    const std::span<std::byte> message = receive[static_cast<std::size_t>(peer)];
    if (message.empty()) continue;
    std::vector<at::Tensor> tensors = as_tensors(message);
    messages.push_back(group_->recv(tensors, peer, kTag));
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
    messages.push_back(group_->send(tensors, peer, kTag));
  }
  return messages;
}

void C10dCommunicator::expect(std::span<const std::span<std::byte>> receive) {
  try {
    Works messages = start_receiving(receive);
    const std::lock_guard lock(mutex_);
    if (!broken_) expected_.push_back(std::move(messages));
  } catch (const std::exception& error) {
    throw PeerError(std::string("[comm] cannot receive: ") + error.what());
  }
}

// Letting go of a message that is still in flight ends Gloo's hold of the caller's memory.
void C10dCommunicator::exchange(std::span<const std::span<const std::byte>> send,
                                std::span<const std::span<std::byte>> receive, Deadline deadline) {
  std::string failure;
  try {
    start(send, receive);
    // Only this thread adds or removes messages: abort() merely reads them.
    for (const auto& message : in_flight_) {
      if (message->wait(until(deadline))) continue;
      failure = "given up";
      close_connections_of(*message);
    }
  } catch (const std::exception& error) {
    failure = error.what();
  }
  const std::lock_guard lock(mutex_);
  in_flight_.clear();
  if (failure.empty()) return;
  broken_ = true;
  expected_.clear();
  throw PeerError("[comm] exchange failed: " + failure);
}

void C10dCommunicator::start(std::span<const std::span<const std::byte>> send,
                             std::span<const std::span<std::byte>> receive) {
  const std::lock_guard lock(mutex_);
  if (broken_) throw PeerError("the process group failed before; make a new one");
  if (expected_.empty()) {
    in_flight_ = start_receiving(receive);
  } else {
    in_flight_ = std::move(expected_.front());
    expected_.pop_front();
  }
  for (auto& message : start_sending(send)) in_flight_.push_back(std::move(message));
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
  copies_.assign(receive.size(), send);
  exchange(copies_, receive, deadline);
}

}  // namespace lgreco
