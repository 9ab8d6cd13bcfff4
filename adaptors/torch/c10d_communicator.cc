#include "adaptors/torch/c10d_communicator.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lgreco/status.h"

namespace lgreco {
namespace {

at::Tensor bytes_at(const std::byte* data, std::size_t count) {
  return at::from_blob(const_cast<std::byte*>(data), {static_cast<std::int64_t>(count)}, at::kByte);
}

template <typename Slot>
std::vector<std::int64_t> sizes_of(std::span<const Slot> slots) {
  std::vector<std::int64_t> sizes;
  for (const Slot& slot : slots) sizes.push_back(static_cast<std::int64_t>(slot.size()));
  return sizes;
}

std::size_t total(const std::vector<std::int64_t>& sizes) {
  std::int64_t sum = 0;
  for (std::int64_t size : sizes) sum += size;
  return static_cast<std::size_t>(sum);
}

}  // namespace

C10dCommunicator::C10dCommunicator(c10::intrusive_ptr<c10d::ProcessGroup> group,
                                   std::chrono::milliseconds timeout)
    : group_(std::move(group)), timeout_(timeout) {}

void C10dCommunicator::wait_for(const c10::intrusive_ptr<c10d::Work>& work) {
  if (!work->wait(timeout_)) {
    throw PeerError("no answer within " + std::to_string(timeout_.count()) + " ms");
  }
}

void C10dCommunicator::all_reduce(std::span<float> values) {
  if (broken_) throw PeerError("[comm] the process group failed before; make a new one");
  if (size() == 1 || values.empty()) return;
  try {
    std::vector<at::Tensor> tensors = {
        at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kFloat)};
    c10d::AllreduceOptions options;
    options.timeout = timeout_;
    wait_for(group_->allreduce(tensors, options));
  } catch (const std::exception& error) {
    broken_ = true;
    throw PeerError("[comm] all-reduce of " + std::to_string(values.size_bytes()) +
                    " bytes failed: " + error.what());
  }
}

void C10dCommunicator::exchange_bytes(at::Tensor send, std::vector<std::int64_t> send_sizes,
                                      at::Tensor receive, std::vector<std::int64_t> receive_sizes) {
  if (broken_) throw PeerError("[comm] the process group failed before; make a new one");
  try {
    c10d::AllToAllOptions options;
    options.timeout = timeout_;
    wait_for(group_->all_to_all_single(receive, send, receive_sizes, send_sizes, options));
  } catch (const std::exception& error) {
    broken_ = true;
    throw PeerError("[comm] exchange of " + std::to_string(send.numel()) +
                    " bytes failed: " + error.what());
  }
}

void C10dCommunicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                  std::span<const std::span<std::byte>> receive) {
  if (size() == 1) {
    std::copy(send[0].begin(), send[0].end(), receive[0].begin());
    return;
  }
  const auto send_sizes = sizes_of(send);
  const auto receive_sizes = sizes_of(receive);
  exchange_bytes(bytes_at(send.front().data(), total(send_sizes)), send_sizes,
                 bytes_at(receive.front().data(), total(receive_sizes)), receive_sizes);
}

void C10dCommunicator::all_gather(std::span<const std::byte> send,
                                  std::span<const std::span<std::byte>> receive) {
  const auto own = static_cast<std::size_t>(rank());
  const auto peers = static_cast<std::size_t>(size() - 1);
  if (peers == 0) {
    std::copy(send.begin(), send.end(), receive[0].begin());
    return;
  }
  std::vector<std::byte> copies(peers * send.size());
  for (std::size_t i = 0; i < peers; ++i) {
    std::copy(send.begin(), send.end(),
              copies.begin() + static_cast<std::ptrdiff_t>(i * send.size()));
  }
  std::vector<std::int64_t> send_sizes(peers + 1, static_cast<std::int64_t>(send.size()));
  send_sizes[own] = 0;
  std::vector<std::int64_t> receive_sizes = sizes_of(receive);
  receive_sizes[own] = 0;
  std::vector<std::byte> received(total(receive_sizes));
  exchange_bytes(bytes_at(copies.data(), copies.size()), send_sizes,
                 bytes_at(received.data(), received.size()), receive_sizes);

  const std::byte* next = received.data();
  for (std::size_t r = 0; r < receive.size(); ++r) {
    if (r == own) {
      std::copy(send.begin(), send.end(), receive[r].begin());
    } else {
      std::copy_n(next, receive[r].size(), receive[r].begin());
      next += receive[r].size();
    }
  }
}

}  // namespace lgreco
