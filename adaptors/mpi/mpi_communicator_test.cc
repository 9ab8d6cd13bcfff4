// Runs under mpiexec: every rank runs every test, and each bounds its waiting by a deadline.

#include "lgreco/mpi_communicator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <thread>

#include "lgreco/compressor.h"
#include "lgreco/status.h"
#include "tests/forked_child.h"
#include "tests/law_of_bytes.h"

namespace lgreco {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Deadline soon() { return Clock::now() + seconds(20); }

/// Memory cut into slots, one after the other.
struct Slots {
  explicit Slots(const std::vector<std::size_t>& sizes, std::byte fill = {}) {
    std::size_t total = 0;
    for (std::size_t size : sizes) total += size;
    memory.assign(total, fill);
    std::size_t next = 0;
    for (std::size_t size : sizes) {
      parts.push_back(std::span(memory).subspan(next, size));
      next += size;
    }
  }
  std::vector<std::span<const std::byte>> to_send() const { return {parts.begin(), parts.end()}; }

  std::vector<std::byte> memory;
  std::vector<std::span<std::byte>> parts;
};

/// Byte `i` of what `from` sends to `to`: tells the pair, the round and the place.
std::byte mark(int from, int to, int round, std::size_t i) {
  return static_cast<std::byte>(101 * from + 17 * to + 5 * round + static_cast<int>(i % 251));
}

void write_marks(std::span<std::byte> slot, int from, int to, int round) {
  for (std::size_t i = 0; i < slot.size(); ++i) slot[i] = mark(from, to, round, i);
}

void expect_marks(std::span<const std::byte> slot, int from, int to, int round) {
  for (std::size_t i = 0; i < slot.size(); ++i) {
    ASSERT_EQ(slot[i], mark(from, to, round, i))
        << "byte " << i << " of " << slot.size() << " from rank " << from << " in round " << round;
  }
}

/// Sizes from `unit` on that differ per pair; some are 0.
std::size_t length(int from, int to, std::size_t unit) {
  return unit * static_cast<std::size_t>((2 * from + to) % 5) + (to > from ? 1 : 0);
}

void check_all_to_all(Communicator& comm, std::size_t unit, int round) {
  std::vector<std::size_t> out, in;
  for (int peer = 0; peer < comm.size(); ++peer) {
    out.push_back(length(comm.rank(), peer, unit));
    in.push_back(length(peer, comm.rank(), unit));
  }
  Slots send(out), receive(in);
  for (int peer = 0; peer < comm.size(); ++peer) {
    write_marks(send.parts[static_cast<std::size_t>(peer)], comm.rank(), peer, round);
  }
  comm.all_to_all(send.to_send(), receive.parts, soon());
  for (int peer = 0; peer < comm.size(); ++peer) {
    expect_marks(receive.parts[static_cast<std::size_t>(peer)], peer, comm.rank(), round);
  }
}

/// `aliased`: what is sent already lies in this rank's slot.
void check_all_gather(Communicator& comm, std::size_t unit, bool aliased, int round) {
  std::vector<std::size_t> sizes;
  for (int peer = 0; peer < comm.size(); ++peer) sizes.push_back(length(peer, 0, unit));
  const auto own = static_cast<std::size_t>(comm.rank());
  Slots receive(sizes);
  std::vector<std::byte> apart(sizes[own]);
  const std::span<std::byte> send = aliased ? receive.parts[own] : std::span<std::byte>(apart);
  write_marks(send, comm.rank(), 0, round);
  comm.all_gather(send, receive.parts, soon());
  for (int peer = 0; peer < comm.size(); ++peer) {
    expect_marks(receive.parts[static_cast<std::size_t>(peer)], peer, 0, round);
  }
}

int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int world_size() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

/// The first `size` ranks; null on the others.
std::unique_ptr<MpiCommunicator> first_ranks(int size, std::size_t max_message) {
  MPI_Comm part = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, world_rank() < size ? 0 : MPI_UNDEFINED, 0, &part);
  if (part == MPI_COMM_NULL) return nullptr;
  auto comm = std::make_unique<MpiCommunicator>(part, max_message);
  MPI_Comm_free(&part);
  return comm;
}

class MpiCommunicatorTest : public testing::TestWithParam<std::tuple<int, std::size_t>> {};
INSTANTIATE_TEST_SUITE_P(RanksAndMaxMessage, MpiCommunicatorTest,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::Values(std::size_t{7},
                                                          MpiCommunicator::kMaxMessage)));

TEST_P(MpiCommunicatorTest, AllToAllDelivers) {
  const auto [size, max_message] = GetParam();
  const auto comm = first_ranks(size, max_message);
  if (!comm) return;
  EXPECT_EQ(comm->size(), size);
  EXPECT_EQ(comm->rank(), world_rank());
  int round = 0;
  for (std::size_t unit : {0, 1, 7, 1000}) check_all_to_all(*comm, unit, round++);
}

TEST_P(MpiCommunicatorTest, AllGatherDelivers) {
  const auto [size, max_message] = GetParam();
  const auto comm = first_ranks(size, max_message);
  if (!comm) return;
  int round = 0;
  for (std::size_t unit : {0, 1, 7, 1000}) {
    check_all_gather(*comm, unit, false, round++);
    check_all_gather(*comm, unit, true, round++);
  }
}

TEST(MpiCommunicator, DeliversMegabytes) {
  MpiCommunicator whole(MPI_COMM_WORLD), cut(MPI_COMM_WORLD, 100'000);
  check_all_to_all(whole, 1'000'000, 0);
  check_all_to_all(cut, 1'000'000, 1);
}

// Ranks run ahead of each other by many collectives, with nothing but order to keep them apart.
TEST(MpiCommunicator, CollectivesKeepTheirOrder) {
  MpiCommunicator comm(MPI_COMM_WORLD, 64);
  for (int round = 0; round < 200; ++round) {
    if (round % 50 == 10 * comm.rank()) std::this_thread::sleep_for(milliseconds(5));
    check_all_to_all(comm, 20, round);
    check_all_gather(comm, 30, round % 2 == 0, round);
  }
}

TEST(MpiCommunicator, LanesDoNotMix) {
  const auto lanes = mpi_lanes(MPI_COMM_WORLD);
  ASSERT_EQ(lanes.size(), 2u);
  std::thread other([&] {
    for (int round = 0; round < 100; ++round) check_all_to_all(*lanes[1], 50, 2 * round);
  });
  for (int round = 0; round < 100; ++round) check_all_to_all(*lanes[0], 50, 2 * round + 1);
  other.join();
}

void expect_unusable(Communicator& comm) {
  Slots slots(std::vector<std::size_t>(static_cast<std::size_t>(comm.size()), 1));
  const auto start = Clock::now();
  EXPECT_THROW(comm.all_to_all(slots.to_send(), slots.parts, soon()), PeerError);
  EXPECT_THROW(comm.all_gather(slots.parts[0], slots.parts, soon()), PeerError);
  EXPECT_LT(Clock::now() - start, seconds(10)) << "at once, not at the deadline";
}

/// Slots of `size` bytes from everybody to everybody; expects a PeerError that tells `reason`.
void expect_peer_error(Communicator& comm, Slots& slots, const std::vector<std::byte>& own,
                       Deadline deadline, const std::string& reason) {
  try {
    comm.all_gather(own, slots.parts, deadline);
    ADD_FAILURE() << "no error on rank " << comm.rank();
  } catch (const PeerError& error) {
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
}

// The last rank calls only when the others have given up: they get their error in time, stay
// unusable, and what then comes in late is not written to their memory.
class MpiLatePeerTest : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(EagerAndRendezvous, MpiLatePeerTest, testing::Values(16, 200'000));

TEST_P(MpiLatePeerTest, IsAnErrorForTheOthers) {
  MpiCommunicator comm(MPI_COMM_WORLD);
  const int late = comm.size() - 1;
  const std::byte untouched{0xAA};
  Slots slots(std::vector<std::size_t>(static_cast<std::size_t>(comm.size()), GetParam()),
              untouched);
  const std::vector<std::byte> own(GetParam(), std::byte{0x55});
  if (comm.rank() != late) {
    const Deadline deadline = Clock::now() + seconds(2);
    expect_peer_error(comm, slots, own, deadline, "still waiting for rank 3");
    EXPECT_GE(Clock::now(), deadline);
    EXPECT_LT(Clock::now(), deadline + seconds(10));
    expect_unusable(comm);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (comm.rank() == late) {
    try {
      comm.all_gather(own, slots.parts, Clock::now() + milliseconds(500));
    } catch (const PeerError&) {  // Small messages are delivered, large ones want their receiver.
    }
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (comm.rank() != late) {
    for (std::byte b : slots.parts[static_cast<std::size_t>(late)]) ASSERT_EQ(b, untouched);
  }
}

// Everybody waits for the last rank, which never calls.
TEST(MpiCommunicator, AbortEndsTheCollectiveInFlight) {
  MpiCommunicator comm(MPI_COMM_WORLD);
  Slots slots(std::vector<std::size_t>(static_cast<std::size_t>(comm.size()), 16));
  const std::vector<std::byte> own(16);
  if (comm.rank() != comm.size() - 1) {
    std::thread killer([&] {
      std::this_thread::sleep_for(milliseconds(50));
      comm.abort();
    });
    expect_peer_error(comm, slots, own, soon(), "aborted");
    killer.join();
  } else {
    comm.abort();
  }
  expect_unusable(comm);
  MPI_Barrier(MPI_COMM_WORLD);
}

// Rank 0 sends more, or less, than the others expect.
class MpiWrongLengthTest : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(TooLongAndTooShort, MpiWrongLengthTest, testing::Values(9, 7));

TEST_P(MpiWrongLengthTest, IsAnErrorForTheReceiver) {
  MpiCommunicator comm(MPI_COMM_WORLD);
  std::vector<std::size_t> sizes(static_cast<std::size_t>(comm.size()), 8);
  const bool wrong = comm.rank() == 0;
  if (wrong) sizes[0] = GetParam();
  Slots slots(sizes);
  const std::vector<std::byte> own(sizes[static_cast<std::size_t>(comm.rank())]);
  if (wrong) {
    comm.all_gather(own, slots.parts, soon());
  } else {
    expect_peer_error(comm, slots, own, soon(),
                      GetParam() > 8 ? "TRUNCATE" : "7 bytes instead of 8 from rank 0");
    expect_unusable(comm);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST(MpiCommunicator, RefusesImpossibleMessageLengths) {
  EXPECT_THROW(MpiCommunicator(MPI_COMM_WORLD, 0), ConfigError);
  EXPECT_THROW(MpiCommunicator(MPI_COMM_WORLD, std::size_t{1} << 31), ConfigError);
}

/// Whether mpi_lanes refuses to work and says what to call.
bool is_refused(const char* reason) {
  try {
    mpi_lanes(MPI_COMM_WORLD);
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    return text.find(reason) != std::string::npos &&
           text.find("MPI_Init_thread(") != std::string::npos;
  }
  return false;
}

// Every step of a real run, over MPI.
TEST(MpiCommunicator, SendsWhatTheLawOfBytesSays) {
  for (const MethodRow& row : method_table()) {
    for (const std::size_t lanes : {1, 2}) {
      MpiCommunicator beside(MPI_COMM_WORLD);
      std::vector<std::unique_ptr<Communicator>> all;
      while (all.size() < lanes) all.push_back(std::make_unique<MpiCommunicator>(MPI_COMM_WORLD));
      check_law_of_bytes(std::string(row.example), beside, std::move(all), soon());
    }
  }
}

// MPI itself may not be called in a forked child, so all that the child may do is refuse and drop.
TEST(MpiCommunicator, IsDroppedInAForkedChild) {
  std::vector<std::unique_ptr<Communicator>> lanes;
  lanes.push_back(std::make_unique<MpiCommunicator>(MPI_COMM_WORLD));
  std::optional<Aggregator> aggregator(
      std::in_place, std::vector<LayerSpec>{{.name = "w", .shape = {64, 64}}},
      AggregatorOptions{.method = parse_level("low_rank:2")}, std::move(lanes));
  std::vector<float> values(64 * 64, 1.0f);
  const Bucket bucket{.gradients = {{.layer = 0, .data = values.data()}}};
  aggregator->exchange(bucket);
  run_in_child([&] {
    require_refused("exchange", [&] { aggregator->exchange(bucket); });
    aggregator.reset();
  });
  aggregator->exchange(bucket);
  EXPECT_EQ(aggregator->stats().steps, 2u);
}

/// The whole test is this: the process has only one MPI_Init.
bool threads_are_required() {
  const bool before = is_refused("MPI is not running");
  MPI_Init(nullptr, nullptr);
  const bool after = is_refused("MPI runs without MPI_THREAD_MULTIPLE");
  MPI_Finalize();
  return before && after;
}

}  // namespace
}  // namespace lgreco

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--single-threaded") == 0) {
    return lgreco::threads_are_required() ? 0 : 1;
  }
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  if (lgreco::world_rank() > 0) GTEST_FLAG_SET(brief, true);
  testing::InitGoogleTest(&argc, argv);
  if (lgreco::world_size() != 4) {
    std::fprintf(stderr, "run this as: mpiexec -n 4 %s\n", argv[0]);
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  const int result = RUN_ALL_TESTS();
  MPI_Finalize();
  return result;
}
