// The network as the engine sees it: three collectives and nothing that a backend cannot do.
//
// Collectives are called by one thread at a time, in the same order on every rank. They block until
// done. Any failure throws PeerError and leaves the communicator unusable: later calls throw too.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace lgreco {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// In-place sum over the ranks. Every rank ends with the same bits.
  virtual void all_reduce(std::span<float> values) = 0;

  /// send[r] goes to rank r; receive[r] is filled by rank r. Sizes may differ and be 0; the size
  /// of receive[r] here equals that of send[rank()] on rank r. The slot of this rank is copied.
  /// REQUIRES: `send` and `receive` are each contiguous in memory, slot after slot.
  virtual void all_to_all(std::span<const std::span<const std::byte>> send,
                          std::span<const std::span<std::byte>> receive) = 0;

  /// Every rank's `send` to everybody: receive[r] is rank r's, sizes may differ.
  /// REQUIRES: `receive` is contiguous in memory, slot after slot.
  virtual void all_gather(std::span<const std::byte> send,
                          std::span<const std::span<std::byte>> receive) = 0;

  /// Bytes that one message to one peer costs on the wire beyond its payload: headers and
  /// acknowledgements. Counted only. An all-reduce is 4 messages to each peer, the others are 1.
  virtual std::size_t message_overhead() const { return 0; }
};

/// `size` communicators joined in this process, one per thread: for tests and examples. When one is
/// destroyed, or a collective takes longer than `timeout`, its peers' calls throw PeerError.
std::vector<std::unique_ptr<Communicator>> thread_communicators(
    int size, std::chrono::milliseconds timeout = std::chrono::seconds(60));

/// Bytes this rank sent and received, as a network interface counts them: ring all-reduce 2 (N-1)/N
/// of the vector, direct all-to-all and all-gather, plus the messages' overhead.
struct Traffic {
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  double seconds = 0;  // spent inside collectives
};

/// A decorator that counts. `traffic()` may be read when no collective runs.
class CountingCommunicator : public Communicator {
 public:
  explicit CountingCommunicator(std::unique_ptr<Communicator> inner);

  int rank() const override;
  int size() const override;
  void all_reduce(std::span<float> values) override;
  void all_to_all(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> receive) override;
  void all_gather(std::span<const std::byte> send,
                  std::span<const std::span<std::byte>> receive) override;

  std::size_t message_overhead() const override;

  const Traffic& traffic() const { return traffic_; }

 private:
  void count(std::uint64_t sent, std::uint64_t received, std::uint64_t messages_per_peer);

  std::unique_ptr<Communicator> inner_;
  Traffic traffic_;
};

}  // namespace lgreco
