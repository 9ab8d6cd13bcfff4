#include "adaptors/torch/c10d_communicator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "lgreco/status.h"

namespace lgreco {
namespace {

using Milliseconds = std::chrono::milliseconds;

// How often a wait looks whether it is to end.
constexpr Milliseconds kSlice(100);

Milliseconds until(Deadline deadline) {
  const auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now());
  return std::max(left, Milliseconds(1));
}

std::int64_t total(const std::vector<std::int64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
}

// Memory for `bytes` that nobody else uses; the old one when it is large enough.
at::Tensor sized(const at::Tensor& old, std::int64_t bytes) {
  if (old.defined() && old.storage().nbytes() >= static_cast<std::size_t>(bytes)) {
    return old.numel() == bytes ? old : at::empty({0}, at::kByte).set_(old.storage(), 0, {bytes});
  }
  return at::empty({bytes}, at::kByte);
}

std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

}  // namespace

// Work::wait throws when its time is over, and also when the work failed.
void C10dCommunicator::wait_for(c10d::Work& work, Deadline deadline) const {
  while (true) {
    try {
      work.wait(std::min(kSlice, until(deadline)));
      return;
    } catch (const std::exception&) {
      if (work.isCompleted()) break;
    }
    if (aborted_) throw PeerError("given up");
    if (Clock::now() >= deadline) throw PeerError("no answer before the step's timeout");
  }
  work.wait();  // it may have succeeded in the meantime
}

void C10dCommunicator::exchange(Deadline deadline) {
  if (broken_ || aborted_) {
    throw PeerError("[comm] the process group failed before; make a new one");
  }
  try {
    c10d::AllToAllOptions options;
    options.timeout = until(deadline);
    const auto work =
        group_->all_to_all_single(received_, sent_, receive_sizes_, send_sizes_, options);
    wait_for(*work, deadline);
  } catch (const std::exception& error) {
    broken_ = true;
    throw PeerError("[comm] exchange of " + std::to_string(sent_.numel()) +
                    " bytes failed: " + error.what());
  }
}

void C10dCommunicator::receive_into(std::span<const std::span<std::byte>> slots) const {
  const std::byte* next = bytes_of(received_);
  for (std::size_t peer = 0; peer < slots.size(); ++peer) {
    if (receive_sizes_[peer] == 0) continue;
    std::memcpy(slots[peer].data(), next, slots[peer].size());
    next += slots[peer].size();
  }
}

void C10dCommunicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                  std::span<const std::span<std::byte>> receive,
                                  Deadline deadline) {
  send_sizes_.clear();
  receive_sizes_.clear();
  for (const auto& slot : send) send_sizes_.push_back(static_cast<std::int64_t>(slot.size()));
  for (const auto& slot : receive) receive_sizes_.push_back(static_cast<std::int64_t>(slot.size()));
  const auto own = static_cast<std::size_t>(rank());
  std::copy(send[own].begin(), send[own].end(), receive[own].begin());
  send_sizes_[own] = receive_sizes_[own] = 0;
  if (size() == 1) return;

  sent_ = sized(sent_, total(send_sizes_));
  received_ = sized(received_, total(receive_sizes_));
  std::byte* next = bytes_of(sent_);
  for (std::size_t peer = 0; peer < send.size(); ++peer) {
    if (send_sizes_[peer] == 0) continue;
    std::memcpy(next, send[peer].data(), send[peer].size());
    next += send[peer].size();
  }
  exchange(deadline);
  receive_into(receive);
}

void C10dCommunicator::all_gather(std::span<const std::byte> send,
                                  std::span<const std::span<std::byte>> receive,
                                  Deadline deadline) {
  const auto own = static_cast<std::size_t>(rank());
  if (receive[own].data() != send.data()) {
    std::copy(send.begin(), send.end(), receive[own].begin());
  }
  if (size() == 1) return;

  send_sizes_.assign(receive.size(), static_cast<std::int64_t>(send.size()));
  receive_sizes_.clear();
  for (const auto& slot : receive) receive_sizes_.push_back(static_cast<std::int64_t>(slot.size()));
  send_sizes_[own] = receive_sizes_[own] = 0;
  sent_ = sized(sent_, total(send_sizes_));
  received_ = sized(received_, total(receive_sizes_));
  for (int copy = 0; copy < size() - 1; ++copy) {
    std::memcpy(bytes_of(sent_) + static_cast<std::size_t>(copy) * send.size(), send.data(),
                send.size());
  }
  exchange(deadline);
  receive_into(receive);
}

}  // namespace lgreco
