#include "src/engine/network_probe.h"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>
#include <vector>

#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

/// Delays each collective as a network of `bandwidth` bytes per second would.
class SlowCommunicator final : public Communicator {
 public:
  SlowCommunicator(std::unique_ptr<Communicator> inner, Network network)
      : inner_(std::move(inner)), network_(network) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override {
    inner_->all_to_all(send, receive, deadline);
  }
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override {
    const double bytes = static_cast<double>(send.size()) * (size() - 1);
    std::this_thread::sleep_for(
        std::chrono::duration<double>(network_.latency + bytes / network_.bandwidth));
    inner_->all_gather(send, receive, deadline);
  }
  void abort() override { inner_->abort(); }

 private:
  std::unique_ptr<Communicator> inner_;
  Network network_;
};

// Sleeping takes longer than asked for, never shorter, and on a busy machine much longer: only the
// sides that cannot fail by that are checked closely.
TEST(NetworkProbe, FindsTheNetworkOfTheSlowestRank) {
  std::mutex mutex;
  std::vector<Network> found;
  run_ranks(3, [&](std::unique_ptr<Communicator> comm) {
    const bool slow = comm->rank() == 1;
    SlowCommunicator communicator(std::move(comm),
                                  {.bandwidth = slow ? 2e7 : 1e9, .latency = slow ? 2e-3 : 1e-4});
    const Network network = probe_network(communicator, soon());
    const std::lock_guard lock(mutex);
    found.push_back(network);
  });
  for (const Network& network : found) {
    EXPECT_EQ(network, found[0]);
    EXPECT_GE(network.latency, 2e-3);
    EXPECT_LE(network.bandwidth, 2e7);
    EXPECT_GT(network.bandwidth, 1e5);
  }
}

TEST(NetworkProbe, OneRankHasANetwork) {
  run_ranks(1, [&](std::unique_ptr<Communicator> comm) {
    EXPECT_NO_THROW(check(probe_network(*comm, soon())));
  });
}

}  // namespace
}  // namespace lgreco
