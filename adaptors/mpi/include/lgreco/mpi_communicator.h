// The communicator over MPI. Most programs want mpi_lanes, which makes what an Aggregator takes:
//
//   int provided = 0;
//   MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
//   {
//     lgreco::Aggregator aggregator(layers, options, lgreco::mpi_lanes(MPI_COMM_WORLD));
//     ...
//   }  // the aggregator must be gone before MPI
//   MPI_Finalize();
#pragma once

#include <mpi.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/process.h"

namespace lgreco {

/// Messages between the ranks of a duplicate of an MPI communicator, so that nothing gets mixed up
/// with the program's own messages.
///
/// After a PeerError the receives of the failed collective are cancelled. What MPI has begun to
/// transfer cannot be called back, though: keep the memory handed to that collective until the
/// process ends, and end it with MPI_Abort, since MPI_Finalize may wait for the lost peer.
///
/// In a forked child its collectives throw ConfigError, and its destructor does nothing.
class MpiCommunicator final : public Communicator {
 public:
  /// Longer slots travel as several messages, since MPI counts in int.
  static constexpr std::size_t kMaxMessage = std::size_t{1} << 30;

  /// Collective over `parent`, which is only duplicated and may be freed afterwards. Other values
  /// of `max_message`, equal on all ranks and in [1, INT_MAX], are for tests.
  /// Throws ConfigError unless MPI runs with MPI_THREAD_MULTIPLE: lanes are used by threads.
  explicit MpiCommunicator(MPI_Comm parent, std::size_t max_message = kMaxMessage);
  /// Collective, unless a call has failed: then the duplicate is left to the end of the process.
  /// REQUIRES: MPI is not finalized.
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  /// Empty slots are not sent.
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override;
  /// As an all-to-all of the same slot: as many bytes as a ring, in one step.
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override;
  /// Of this rank; its peers learn of it by their deadlines.
  void abort() override { aborted_ = true; }
  /// MPI picks the transport, such as shared memory or InfiniBand, and does not tell its headers:
  /// payload alone is counted.
  std::size_t message_overhead() const override { return 0; }

 private:
  /// One message under way.
  struct Message {
    int peer;
    int bytes;
  };

  void begin();
  void post_receives(std::span<const std::span<std::byte>> slots);
  void post_send(int peer, std::span<const std::byte> slot);
  void finish(Deadline deadline);
  bool all_arrived();
  void check_lengths();
  void check(int code);
  std::string unfinished_peers();
  [[noreturn]] void fail(const std::string& reason);

  OwnerProcess owner_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::size_t max_message_;
  int rank_ = 0;
  int size_ = 0;
  bool broken_ = false;
  std::atomic<bool> aborted_ = false;
  // The messages of the collective under way, the receives first. Kept, so that a step like the
  // last one allocates nothing.
  std::size_t receives_ = 0;
  std::vector<Message> messages_;
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Status> statuses_;
};

/// Two communicators over the ranks of `parent`: the lanes of one Aggregator. Collective over
/// `parent`; throws as MpiCommunicator's constructor.
std::vector<std::unique_ptr<Communicator>> mpi_lanes(MPI_Comm parent);

}  // namespace lgreco
