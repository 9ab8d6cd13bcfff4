#include "lgreco/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "lgreco/status.h"
#include "tests/forked_child.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

class CommunicatorTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, CommunicatorTest, testing::Values(1, 2, 3, 4, 8));

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
    comm->all_to_all(send, receive, soon());
    for (int from = 0; from < size; ++from) {
      for (std::byte b : receive[static_cast<std::size_t>(from)])
        ASSERT_EQ(b, mark(from, comm->rank()));
    }
  });
}

TEST_P(CommunicatorTest, AllGatherDelivers) {
  run_ranks(GetParam(), [&](std::unique_ptr<Communicator> comm) {
    std::vector<std::byte> all;
    std::vector<std::size_t> begin;
    for (int rank = 0; rank < comm->size(); ++rank) {
      begin.push_back(all.size());
      all.resize(all.size() + static_cast<std::size_t>(rank));  // rank 0 sends nothing
    }
    std::vector<std::span<std::byte>> receive;
    for (int rank = 0; rank < comm->size(); ++rank) {
      const auto index = static_cast<std::size_t>(rank);
      receive.push_back(std::span(all).subspan(begin[index], index));
    }
    const auto own = receive[static_cast<std::size_t>(comm->rank())];  // sent from its own slot
    std::fill(own.begin(), own.end(), static_cast<std::byte>(comm->rank()));
    comm->all_gather(own, receive, soon());
    for (int rank = 0; rank < comm->size(); ++rank) {
      for (std::byte b : receive[static_cast<std::size_t>(rank)]) {
        ASSERT_EQ(b, static_cast<std::byte>(rank));
      }
    }
  });
}

/// 7 bytes from everybody to everybody.
void gather_seven(Communicator& comm, Deadline deadline = soon()) {
  const auto size = static_cast<std::size_t>(comm.size());
  std::vector<std::byte> mine(7), all(7 * size);
  std::vector<std::span<std::byte>> receive;
  for (std::size_t r = 0; r < size; ++r) receive.push_back(std::span(all).subspan(7 * r, 7));
  comm.all_gather(mine, receive, deadline);
}

TEST_P(CommunicatorTest, CountsWhatLeavesTheRank) {
  run_ranks(GetParam(), [&](std::unique_ptr<Communicator> comm) {
    CountingCommunicator counting(std::move(comm));
    gather_seven(counting);
    gather_seven(counting);
    const auto peers = static_cast<std::size_t>(counting.size() - 1);
    EXPECT_EQ(counting.traffic().bytes_sent, 2 * 7 * peers);
    EXPECT_EQ(counting.traffic().bytes_received, 2 * 7 * peers);
    EXPECT_EQ(counting.traffic().messages_sent, 2 * peers);
  });
}

TEST(ThreadCommunicator, PeerThatLeavesIsAnErrorForTheOthers) {
  auto comms = thread_communicators(2);
  comms[1].reset();
  EXPECT_THROW(gather_seven(*comms[0]), PeerError);
  EXPECT_THROW(gather_seven(*comms[0]), PeerError) << "stays unusable";
}

TEST(ThreadCommunicator, PeerThatIsLateIsAnError) {
  auto comms = thread_communicators(2);
  EXPECT_THROW(gather_seven(*comms[0], Clock::now() + std::chrono::milliseconds(20)), PeerError);
}

TEST(ThreadCommunicator, AbortEndsACollectiveInFlight) {
  auto comms = thread_communicators(2);
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    comms[0]->abort();
  });
  EXPECT_THROW(gather_seven(*comms[0]), PeerError);
  stopper.join();
}

// Rank 1 waits in a collective meanwhile: its lock and its condition are copied as they are.
TEST(ForkedCommunicator, ChildLeavesItToTheParent) {
  run_ranks(2, [](std::unique_ptr<Communicator> comm) {
    std::byte byte{};
    std::vector<std::span<std::byte>> receive = {{&byte, 0}, {&byte, 0}};
    const auto meet = [&] { comm->all_gather({}, receive, soon()); };
    if (comm->rank() == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      run_in_child([&] {
        comm->abort();
        require_refused("all_gather", meet);
        comm.reset();
      });
    }
    meet();
  });
}

}  // namespace
}  // namespace lgreco
