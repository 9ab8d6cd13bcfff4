#include "lgreco/communicator.h"
#include "src/base/stopwatch.h"

namespace lgreco {
CountingCommunicator::CountingCommunicator(std::unique_ptr<Communicator> inner)
    : inner_(std::move(inner)) {}

int CountingCommunicator::rank() const { return inner_->rank(); }
int CountingCommunicator::size() const { return inner_->size(); }

void CountingCommunicator::all_reduce(std::span<float> values) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_reduce(values);
  }
  const auto peers = static_cast<std::uint64_t>(size() - 1);
  const std::uint64_t bytes = 2 * peers * values.size_bytes() / static_cast<std::uint64_t>(size());
  traffic_.bytes_sent += bytes;
  traffic_.bytes_received += bytes;
}

void CountingCommunicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                      std::span<const std::span<std::byte>> receive) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_to_all(send, receive);
  }
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    traffic_.bytes_sent += send[static_cast<std::size_t>(peer)].size();
    traffic_.bytes_received += receive[static_cast<std::size_t>(peer)].size();
  }
}

void CountingCommunicator::all_gather(std::span<const std::byte> send,
                                      std::span<const std::span<std::byte>> receive) {
  {
    const Stopwatch watch(traffic_.seconds);
    inner_->all_gather(send, receive);
  }
  traffic_.bytes_sent += send.size() * static_cast<std::uint64_t>(size() - 1);
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) traffic_.bytes_received += receive[static_cast<std::size_t>(peer)].size();
  }
}

}  // namespace lgreco
