#include "lgreco/communicator.h"
#include "src/base/stopwatch.h"

namespace lgreco {
CountingCommunicator::CountingCommunicator(std::unique_ptr<Communicator> inner)
    : inner_(std::move(inner)) {}

int CountingCommunicator::rank() const { return inner_->rank(); }
int CountingCommunicator::size() const { return inner_->size(); }

std::size_t CountingCommunicator::message_overhead() const { return inner_->message_overhead(); }

void CountingCommunicator::count(std::uint64_t sent, std::uint64_t received,
                                 std::uint64_t messages_per_peer) {
  const std::uint64_t overhead =
      messages_per_peer * static_cast<std::uint64_t>(size() - 1) * message_overhead();
  traffic_.bytes_sent += sent + overhead;
  traffic_.bytes_received += received + overhead;
}

void CountingCommunicator::all_reduce(std::span<float> values) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_reduce(values);
  }
  const auto ranks = static_cast<std::uint64_t>(size());
  const std::uint64_t bytes = 2 * (ranks - 1) * values.size_bytes() / ranks;
  // A ring of 2 (N-1) steps, each of two segments.
  count(bytes, bytes, /*messages_per_peer=*/4);
}

void CountingCommunicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                      std::span<const std::span<std::byte>> receive) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_to_all(send, receive);
  }
  std::uint64_t sent = 0, received = 0;
  for (std::size_t peer = 0; peer < send.size(); ++peer) {
    if (peer == static_cast<std::size_t>(rank())) continue;
    sent += send[peer].size();
    received += receive[peer].size();
  }
  count(sent, received, /*messages_per_peer=*/1);
}

void CountingCommunicator::all_gather(std::span<const std::byte> send,
                                      std::span<const std::span<std::byte>> receive) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_gather(send, receive);
  }
  std::uint64_t received = 0;
  for (std::size_t peer = 0; peer < receive.size(); ++peer) {
    received += peer == static_cast<std::size_t>(rank()) ? 0 : receive[peer].size();
  }
  count(send.size() * static_cast<std::uint64_t>(size() - 1), received, /*messages_per_peer=*/1);
}

}  // namespace lgreco
