#include "lgreco/communicator.h"
#include "src/base/stopwatch.h"

namespace lgreco {

CountingCommunicator::CountingCommunicator(std::unique_ptr<Communicator> inner)
    : inner_(std::move(inner)) {}

int CountingCommunicator::rank() const { return inner_->rank(); }
int CountingCommunicator::size() const { return inner_->size(); }
void CountingCommunicator::expect(std::span<const std::span<std::byte>> receive) {
  inner_->expect(receive);
}
void CountingCommunicator::abort() { inner_->abort(); }
std::size_t CountingCommunicator::message_overhead() const { return inner_->message_overhead(); }

void CountingCommunicator::count(std::uint64_t sent, std::uint64_t received) {
  const auto peers = static_cast<std::uint64_t>(size() - 1);
  traffic_.bytes_sent += sent + peers * message_overhead();
  traffic_.bytes_received += received + peers * message_overhead();
  traffic_.messages_sent += peers;
}

void CountingCommunicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                      std::span<const std::span<std::byte>> receive,
                                      Deadline deadline) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_to_all(send, receive, deadline);
  }
  std::uint64_t sent = 0, received = 0;
  for (std::size_t peer = 0; peer < send.size(); ++peer) {
    if (peer == static_cast<std::size_t>(rank())) continue;
    sent += send[peer].size();
    received += receive[peer].size();
  }
  count(sent, received);
}

void CountingCommunicator::all_gather(std::span<const std::byte> send,
                                      std::span<const std::span<std::byte>> receive,
                                      Deadline deadline) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_gather(send, receive, deadline);
  }
  std::uint64_t received = 0;
  for (std::size_t peer = 0; peer < receive.size(); ++peer) {
    received += peer == static_cast<std::size_t>(rank()) ? 0 : receive[peer].size();
  }
  count(send.size() * static_cast<std::uint64_t>(size() - 1), received);
}

}  // namespace lgreco
