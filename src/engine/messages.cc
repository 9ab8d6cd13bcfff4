#include "src/engine/messages.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "src/base/stopwatch.h"
#include "src/engine/shard_layout.h"

namespace lgreco {
namespace {

std::vector<std::span<std::byte>> cut(std::vector<std::byte>& buffer,
                                      const std::vector<std::size_t>& sizes) {
  buffer.resize(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
  std::vector<std::span<std::byte>> slots;
  std::span<std::byte> left(buffer);
  for (const std::size_t size : sizes) {
    slots.push_back(left.first(size));
    left = left.subspan(size);
  }
  return slots;
}

}  // namespace

Messages::Messages(Kind kind, Phase phase, Place place, std::size_t layers,
                   std::vector<std::size_t> body_bytes, Messages* after)
    : kind_(kind), phase_(phase), place_(place), layers_(layers), flag_bytes_(aligned(layers)) {
  std::vector<std::size_t>& sizes = body_bytes;
  for (std::size_t& size : sizes) size = kFrameBytes + flag_bytes_ + aligned(size);
  const auto own = static_cast<std::size_t>(place.rank);
  if (kind == Kind::scatter) {
    std::vector<std::size_t> received(sizes.size(), sizes[own]);
    received[own] = 0;
    receive_slots_ = cut(received_, received);
    sizes[own] = 0;
    set_send_slots(cut(sent_, sizes));
  } else if (after == nullptr) {
    receive_slots_ = cut(received_, sizes);
  } else {
    // The scatter has ended before the gather begins, so the peers' messages arrive in the room of
    // what was sent to them. This rank's own part was not sent, and has no room there.
    received_.resize(sizes[own]);
    sizes[own] = 0;
    receive_slots_ = after->lend(sizes);
    receive_slots_[own] = received_;
  }
}

// Whatever is larger, the message to a rank or the one from it, determines the room for both.
Messages::Slots Messages::lend(const std::vector<std::size_t>& sizes) {
  const Slots before = send_slots_;
  std::vector<std::size_t> rooms;
  for (std::size_t peer = 0; peer < sizes.size(); ++peer) {
    rooms.push_back(std::max(before[peer].size(), sizes[peer]));
  }
  Slots own = cut(sent_, rooms), lent = own;
  for (std::size_t peer = 0; peer < sizes.size(); ++peer) {
    own[peer] = own[peer].first(before[peer].size());
    lent[peer] = lent[peer].first(sizes[peer]);
  }
  set_send_slots(std::move(own));
  return lent;
}

void Messages::set_send_slots(Slots slots) {
  send_slots_ = std::move(slots);
  send_views_.assign(send_slots_.begin(), send_slots_.end());
}

std::span<std::byte> Messages::body_of(std::span<std::byte> message) const {
  const std::size_t frame = kFrameBytes + flag_bytes_;
  return message.empty() ? message
                         : message.subspan(kHeaderBytes + flag_bytes_, message.size() - frame);
}

std::span<std::byte> Messages::outgoing_flags(int peer) {
  const Slots& slots = kind_ == Kind::gather ? receive_slots_ : send_slots_;
  return slots[static_cast<std::size_t>(peer)].subspan(kHeaderBytes, layers_);
}

std::span<std::byte> Messages::outgoing(int peer) {
  const Slots& slots = kind_ == Kind::gather ? receive_slots_ : send_slots_;
  return body_of(slots[static_cast<std::size_t>(peer)]);
}

std::span<const std::byte> Messages::incoming_flags(int peer) const {
  return receive_slots_[static_cast<std::size_t>(peer)].subspan(kHeaderBytes, layers_);
}

std::span<const std::byte> Messages::incoming(int peer) const {
  return body_of(receive_slots_[static_cast<std::size_t>(peer)]);
}

MessageBodies Messages::bodies() {
  MessageBodies bodies;
  for (int peer = 0; peer < place_.ranks; ++peer) {
    const bool is_sent = (kind_ == Kind::gather) == (peer == place_.rank);
    const bool is_received = kind_ == Kind::gather || peer != place_.rank;
    bodies.out.push_back(is_sent ? outgoing(peer) : std::span<std::byte>());
    bodies.in.push_back(is_received ? incoming(peer) : std::span<const std::byte>());
  }
  return bodies;
}

void Messages::exchange(Communicator& communicator, Frame frame, Deadline deadline) {
  frame.phase = phase_;
  frame.sender = static_cast<std::uint32_t>(place_.rank);
  any_failed_ = false;
  check_s_ = 0;
  seal_all(frame);
  if (kind_ == Kind::gather) {
    communicator.all_gather(receive_slots_[static_cast<std::size_t>(place_.rank)], receive_slots_,
                            deadline);
  } else {
    communicator.all_to_all(send_views_, receive_slots_, deadline);
  }
  check_all(frame);
}

void Messages::seal_all(const Frame& frame) {
  const Stopwatch watch(check_s_);
  if (kind_ == Kind::gather) {
    seal(frame, receive_slots_[static_cast<std::size_t>(place_.rank)]);
    return;
  }
  for (const std::span<std::byte> message : send_slots_) {
    if (!message.empty()) seal(frame, message);
  }
}

void Messages::check_all(Frame frame) {
  const Stopwatch watch(check_s_);
  for (int peer = 0; peer < place_.ranks; ++peer) {
    if (peer == place_.rank) continue;
    frame.sender = static_cast<std::uint32_t>(peer);
    bool failed = false;
    const Status status = check(frame, receive_slots_[static_cast<std::size_t>(peer)], failed);
    if (!status.is_ok()) {
      throw ProtocolError("[" + std::string(name_of(phase_)) + "] the message of rank " +
                          std::to_string(peer) + " is refused: " + status.reason());
    }
    any_failed_ |= failed;
  }
}

}  // namespace lgreco
