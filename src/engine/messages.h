// The framed messages of one collective: their buffers, their frames, their checks.
//
// A message is a frame around one presence byte for each layer of the bucket, then a body whose
// size follows from the plan. Buffers are made once and used in every step.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/values.h"
#include "src/engine/frame.h"
#include "src/engine/place.h"

namespace lgreco {

class Messages {
 public:
  enum class Kind {
    scatter,  // another message to every peer
    gather,   // one message to everybody
  };

  /// `body_bytes[r]`: scatter: of each message *to* rank r; gather: of the message *from* rank r.
  /// A gather may come `after` a scatter and take its memory: what rank r sends to all then arrives
  /// where the message to rank r was. That scatter must have ended whenever this one is expected.
  Messages(Kind kind, Phase phase, Place place, std::size_t layers,
           std::vector<std::size_t> body_bytes, Messages* after = nullptr);
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  bool is_scatter() const { return kind_ == Kind::scatter; }

  /// What is sent: to `peer`, or, of a gather, to everybody (`peer` is this rank then).
  std::span<std::byte> outgoing_flags(int peer);
  std::span<std::byte> outgoing(int peer);

  /// Tell the communicator where these messages will be received. What came before is lost.
  void expect(Communicator& communicator) const { communicator.expect(receive_slots_); }
  /// Seal, exchange, check. `frame.phase` and `frame.sender` are filled in here. Throws PeerError
  /// when the network fails, ProtocolError naming the peer when a message is not what it must be.
  void exchange(Communicator& communicator, Frame frame, Deadline deadline);

  /// What `peer` sent, after exchange(). A gather has this rank's own message, too.
  std::span<const std::byte> incoming_flags(int peer) const;
  std::span<const std::byte> incoming(int peer) const;
  /// The bodies of all messages, once no other collective takes this one's memory any more.
  MessageBodies bodies();
  /// After exchange(): some peer's frame says that it failed.
  bool any_failed() const { return any_failed_; }
  /// Seconds that the last exchange() spent on sealing and checking.
  double check_s() const { return check_s_; }

 private:
  using Slots = std::vector<std::span<std::byte>>;

  /// Slots of these sizes in the memory of what this scatter sends.
  Slots lend(const std::vector<std::size_t>& sizes);
  void set_send_slots(Slots slots);
  std::span<std::byte> body_of(std::span<std::byte> message) const;
  void seal_all(const Frame& frame);
  void check_all(Frame frame);

  Kind kind_;
  Phase phase_;
  Place place_;
  std::size_t layers_;
  std::size_t flag_bytes_;       // padded
  std::vector<std::byte> sent_;  // scatter only: slot after slot, own slot empty
  std::vector<std::byte>
      received_;  // slot after slot; scatter: own slot empty; after one: own only
  Slots send_slots_;
  std::vector<std::span<const std::byte>> send_views_;
  Slots receive_slots_;
  bool any_failed_ = false;
  double check_s_ = 0;
};

}  // namespace lgreco
