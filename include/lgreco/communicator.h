// The network as the engine sees it: two collectives on bytes and nothing that a backend cannot do.
//
// Sums are not the network's business: the engine adds up what it receives itself, in the order of
// the ranks, so that every backend and every machine gives the same bits.
//
// Collectives are called by one thread at a time, in the same order on every rank. They block until
// done, at most until their deadline. Any failure, a missed deadline too, throws PeerError and
// leaves the communicator unusable: later calls throw too.
//
// A communicator belongs to the process that made it: a forked child may destroy its copy, which
// must leave the connections alone (see process.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace lgreco {

using Clock = std::chrono::steady_clock;

/// A point in time after which a collective gives up.
using Deadline = Clock::time_point;

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// send[r] goes to rank r; receive[r] is filled by rank r. Sizes may differ and be 0; the size
  /// of receive[r] here equals that of send[rank()] on rank r. The slot of this rank is copied.
  virtual void all_to_all(std::span<const std::span<const std::byte>> send,
                          std::span<const std::span<std::byte>> receive, Deadline deadline) = 0;

  /// Every rank's `send` to everybody: receive[r] is rank r's, sizes may differ. The slot of this
  /// rank is copied, unless it is `send` itself.
  virtual void all_gather(std::span<const std::byte> send,
                          std::span<const std::span<std::byte>> receive, Deadline deadline) = 0;

  /// Says where the messages of a later collective will be received, so that peers may send them at
  /// once instead of asking first. Optional. Expected receptions belong to the following
  /// collectives in turn: when anything is expected, the next collective must be the first of them.
  /// Nobody may touch the other ranks' slots until then. Throws PeerError.
  virtual void expect(std::span<const std::span<std::byte>> /*receive*/) {}

  /// Thread-safe: makes the collective in flight, and every later one, throw PeerError soon.
  virtual void abort() = 0;

  /// Bytes that one message to one peer costs on the wire beyond its payload: headers and
  /// acknowledgements. Counted only. Each collective sends one message to each peer.
  virtual std::size_t message_overhead() const { return 0; }
};

/// `size` communicators joined in this process, one per thread: for tests and examples. When one is
/// destroyed, or misses a deadline, its peers' calls throw PeerError.
std::vector<std::unique_ptr<Communicator>> thread_communicators(int size);

/// What this rank sent and received, as a network interface counts it, the messages' overhead
/// included.
struct Traffic {
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t messages_sent = 0;
  double seconds = 0;  // spent inside collectives
};

/// A decorator that counts. `traffic()` may be read when no collective runs.
class CountingCommunicator final : public Communicator {
 public:
  explicit CountingCommunicator(std::unique_ptr<Communicator> inner);

  int rank() const override;
  int size() const override;
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive, Deadline deadline) override;
  void all_gather(std::span<const std::byte> send, std::span<const std::span<std::byte>> receive,
                  Deadline deadline) override;
  void expect(std::span<const std::span<std::byte>> receive) override;
  void abort() override;
  std::size_t message_overhead() const override;

  const Traffic& traffic() const { return traffic_; }

 private:
  void count(std::uint64_t sent, std::uint64_t received);

  std::unique_ptr<Communicator> inner_;
  Traffic traffic_;
};

}  // namespace lgreco
