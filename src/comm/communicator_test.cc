#include "lgreco/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

class CommunicatorTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, CommunicatorTest, testing::Values(1, 2, 3, 4, 8));

TEST_P(CommunicatorTest, AllReduceSums) {
  run_ranks(GetParam(), [&](std::unique_ptr<Communicator> comm) {
    for (std::size_t count : {0, 1, 5, 1000}) {
      std::vector<float> values(count);
      for (std::size_t i = 0; i < count; ++i) {
        values[i] = static_cast<float>(static_cast<int>(i) * (comm->rank() + 1));
      }
      comm->all_reduce(values);
      const int sum_of_ranks = comm->size() * (comm->size() + 1) / 2;
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(values[i], static_cast<float>(static_cast<int>(i) * sum_of_ranks));
      }
    }
  });
}

// Slot sizes differ per pair; every byte tells who sent it to whom.
TEST_P(CommunicatorTest, AllToAllDelivers) {
  run_ranks(GetParam(), [&](std::unique_ptr<Communicator> comm) {
    const int size = comm->size();
    const auto length = [](int from, int to) { return static_cast<std::size_t>(3 * from + to); };
    const auto mark = [](int from, int to) { return static_cast<std::byte>(16 * from + to); };
    std::vector<std::byte> out, in;
    for (int to = 0; to < size; ++to)
      out.insert(out.end(), length(comm->rank(), to), mark(comm->rank(), to));
    std::size_t total = 0;
    for (int from = 0; from < size; ++from) total += length(from, comm->rank());
    in.resize(total);
    std::vector<std::span<const std::byte>> send;
    std::vector<std::span<std::byte>> receive;
    std::size_t sent = 0, received = 0;
    for (int peer = 0; peer < size; ++peer) {
      send.push_back(std::span(out).subspan(sent, length(comm->rank(), peer)));
      receive.push_back(std::span(in).subspan(received, length(peer, comm->rank())));
      sent += send.back().size();
      received += receive.back().size();
    }
    comm->all_to_all(send, receive);
    for (int from = 0; from < size; ++from) {
      for (std::byte b : receive[static_cast<std::size_t>(from)])
        ASSERT_EQ(b, mark(from, comm->rank()));
    }
  });
}

TEST_P(CommunicatorTest, CountsWhatLeavesTheRank) {
  run_ranks(GetParam(), [&](std::unique_ptr<Communicator> comm) {
    CountingCommunicator counting(std::move(comm));
    const auto size = static_cast<std::size_t>(counting.size());
    std::vector<float> values(100 * size, 1.0f);
    counting.all_reduce(values);
    EXPECT_EQ(counting.traffic().bytes_sent, 2 * (size - 1) * 100 * sizeof(float));
    std::vector<std::byte> mine(7), all(7 * size);
    std::vector<std::span<std::byte>> receive;
    for (std::size_t r = 0; r < size; ++r) receive.push_back(std::span(all).subspan(7 * r, 7));
    counting.all_gather(mine, receive);
    EXPECT_EQ(counting.traffic().bytes_sent, (size - 1) * (800 + 7));
    EXPECT_EQ(counting.traffic().bytes_received, counting.traffic().bytes_sent);
  });
}

TEST(ThreadCommunicator, PeerThatLeavesIsAnErrorForTheOthers) {
  auto comms = thread_communicators(2);
  comms[1].reset();
  std::vector<float> values(1);
  EXPECT_THROW(comms[0]->all_reduce(values), PeerError);
  EXPECT_THROW(comms[0]->all_reduce(values), PeerError) << "stays unusable";
}

TEST(ThreadCommunicator, PeerThatIsLateIsAnError) {
  auto comms = thread_communicators(2, std::chrono::milliseconds(20));
  std::vector<float> values(1);
  EXPECT_THROW(comms[0]->all_reduce(values), PeerError);
}

}  // namespace
}  // namespace lgreco
