#include "lgreco/mpi_communicator.h"

#include <algorithm>
#include <climits>
#include <set>
#include <thread>

#include "lgreco/status.h"

namespace lgreco {
namespace {

// Order is all that tells the messages of a pair of ranks apart: MPI keeps it per communicator.
constexpr int kTag = 0;

std::string error_text(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "MPI error";
  return std::string(text, static_cast<std::size_t>(length));
}

void require_threads() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  int provided = MPI_THREAD_SINGLE;
  if (initialized) MPI_Query_thread(&provided);
  if (provided == MPI_THREAD_MULTIPLE) return;
  throw ConfigError(std::string("[mpi] ") +
                    (initialized ? "MPI runs without MPI_THREAD_MULTIPLE" : "MPI is not running") +
                    ": call MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided) first");
}

/// Polling drives the transfer, so it must not pause for long; but ranks may share the cores that
/// others compute on. Pauses grow with what has been waited and thus delay by a fraction of that.
void pause_after(Clock::duration waited) {
  using std::chrono::microseconds;
  if (waited < microseconds(200)) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::min<Clock::duration>(waited / 16, microseconds(100)));
  }
}

void copy_own(std::span<const std::byte> from, std::span<std::byte> to) {
  if (from.data() != to.data()) std::copy(from.begin(), from.end(), to.begin());
}

}  // namespace

MpiCommunicator::MpiCommunicator(MPI_Comm parent, std::size_t max_message)
    : max_message_(max_message) {
  if (max_message < 1 || max_message > INT_MAX) {
    throw ConfigError("[mpi] max_message is " + std::to_string(max_message) +
                      ", must be in [1, INT_MAX]");
  }
  require_threads();
  check(MPI_Comm_dup(parent, &comm_));
  check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  check(MPI_Comm_rank(comm_, &rank_));
  check(MPI_Comm_size(comm_, &size_));
}

MpiCommunicator::~MpiCommunicator() {
  if (owner_.is_here() && !broken_ && !aborted_) MPI_Comm_free(&comm_);
}

void MpiCommunicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                 std::span<const std::span<std::byte>> receive, Deadline deadline) {
  begin();
  post_receives(receive);
  for (int step = 1; step < size_; ++step) {
    const int peer = (rank_ + step) % size_;
    post_send(peer, send[static_cast<std::size_t>(peer)]);
  }
  const auto own = static_cast<std::size_t>(rank_);
  copy_own(send[own], receive[own]);
  finish(deadline);
}

void MpiCommunicator::all_gather(std::span<const std::byte> send,
                                 std::span<const std::span<std::byte>> receive, Deadline deadline) {
  begin();
  post_receives(receive);
  for (int step = 1; step < size_; ++step) post_send((rank_ + step) % size_, send);
  copy_own(send, receive[static_cast<std::size_t>(rank_)]);
  finish(deadline);
}

void MpiCommunicator::begin() {
  owner_.require_here("[mpi]");
  if (broken_) throw PeerError("[mpi] the communicator failed before; restart the program");
  if (aborted_) fail("aborted");
  receives_ = 0;
  messages_.clear();
  requests_.clear();
}

void MpiCommunicator::post_receives(std::span<const std::span<std::byte>> slots) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    std::span<std::byte> rest = slots[static_cast<std::size_t>(peer)];
    while (!rest.empty()) {
      const auto part = rest.first(std::min(rest.size(), max_message_));
      messages_.push_back({peer, static_cast<int>(part.size())});
      check(MPI_Irecv(part.data(), messages_.back().bytes, MPI_BYTE, peer, kTag, comm_,
                      &requests_.emplace_back(MPI_REQUEST_NULL)));
      ++receives_;
      rest = rest.subspan(part.size());
    }
  }
}

void MpiCommunicator::post_send(int peer, std::span<const std::byte> slot) {
  while (!slot.empty()) {
    const auto part = slot.first(std::min(slot.size(), max_message_));
    messages_.push_back({peer, static_cast<int>(part.size())});
    check(MPI_Isend(part.data(), messages_.back().bytes, MPI_BYTE, peer, kTag, comm_,
                    &requests_.emplace_back(MPI_REQUEST_NULL)));
    slot = slot.subspan(part.size());
  }
}

void MpiCommunicator::finish(Deadline deadline) {
  statuses_.resize(requests_.size());
  const auto start = Clock::now();
  while (!all_arrived()) {
    if (aborted_) fail("aborted");
    const auto now = Clock::now();
    if (now >= deadline) fail("deadline missed, still waiting for " + unfinished_peers());
    pause_after(now - start);
  }
  check_lengths();
}

bool MpiCommunicator::all_arrived() {
  int done = 0;
  const int code =
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, statuses_.data());
  if (code == MPI_ERR_IN_STATUS) {
    for (const MPI_Status& status : statuses_) {
      if (status.MPI_ERROR != MPI_ERR_PENDING) check(status.MPI_ERROR);
    }
  }
  check(code);
  return done != 0;
}

// MPI reports a message that is too long by itself, one that is too short only here.
void MpiCommunicator::check_lengths() {
  for (std::size_t i = 0; i < receives_; ++i) {
    int received = 0;
    check(MPI_Get_count(&statuses_[i], MPI_BYTE, &received));
    if (received != messages_[i].bytes) {
      fail("received " + std::to_string(received) + " bytes instead of " +
           std::to_string(messages_[i].bytes) + " from rank " + std::to_string(messages_[i].peer));
    }
  }
}

void MpiCommunicator::check(int code) {
  if (code != MPI_SUCCESS) fail(error_text(code));
}

std::string MpiCommunicator::unfinished_peers() {
  std::set<int> peers;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    int done = 0;
    MPI_Request_get_status(requests_[i], &done, MPI_STATUS_IGNORE);
    if (!done) peers.insert(messages_[i].peer);
  }
  std::string text = peers.size() == 1 ? "rank" : "ranks";
  for (int peer : peers) text += " " + std::to_string(peer);
  return text;
}

// A receive left behind would write into the caller's memory whenever a late peer wakes up.
void MpiCommunicator::fail(const std::string& reason) {
  broken_ = true;
  for (std::size_t i = 0; i < receives_; ++i) {
    if (requests_[i] != MPI_REQUEST_NULL) MPI_Cancel(&requests_[i]);
  }
  throw PeerError("[mpi] rank " + std::to_string(rank_) + ": " + reason);
}

std::vector<std::unique_ptr<Communicator>> mpi_lanes(MPI_Comm parent) {
  std::vector<std::unique_ptr<Communicator>> lanes;
  lanes.reserve(2);
  for (int lane = 0; lane < 2; ++lane) lanes.push_back(std::make_unique<MpiCommunicator>(parent));
  return lanes;
}

}  // namespace lgreco
