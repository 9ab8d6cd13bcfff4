#include "src/engine/messages.h"

#include <string>

#include "src/engine/shard_layout.h"

namespace lgreco {
namespace {

void cut(std::vector<std::byte>& buffer, const std::vector<std::size_t>& sizes,
         std::vector<std::span<std::byte>>& slots) {
  std::size_t total = 0;
  for (std::size_t size : sizes) total += size;
  buffer.resize(total);
  std::size_t at = 0;
  for (std::size_t size : sizes) {
    slots.push_back(std::span(buffer).subspan(at, size));
    at += size;
  }
}

}  // namespace

Messages::Messages(Kind kind, Phase phase, Place place, std::size_t layers,
                   std::vector<std::size_t> body_bytes)
    : kind_(kind), phase_(phase), place_(place), layers_(layers), flag_bytes_(aligned(layers)) {
  std::vector<std::size_t>& sizes = body_bytes;
  for (std::size_t& size : sizes) size = kFrameBytes + flag_bytes_ + aligned(size);
  if (kind == Kind::gather) {
    cut(received_, sizes, receive_slots_);
    return;
  }
  const auto own = static_cast<std::size_t>(place.rank);
  std::vector<std::size_t> received(sizes.size(), sizes[own]);
  received[own] = 0;
  cut(received_, received, receive_slots_);
  sizes[own] = 0;
  cut(sent_, sizes, send_slots_);
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

void Messages::exchange(Communicator& communicator, Frame frame, Deadline deadline) {
  frame.phase = phase_;
  frame.sender = static_cast<std::uint32_t>(place_.rank);
  any_failed_ = false;
  const auto own = static_cast<std::size_t>(place_.rank);
  if (kind_ == Kind::gather) {
    seal(frame, receive_slots_[own]);
    communicator.all_gather(receive_slots_[own], receive_slots_, deadline);
  } else {
    for (const std::span<std::byte> message : send_slots_) {
      if (!message.empty()) seal(frame, message);
    }
    communicator.all_to_all(send_views_, receive_slots_, deadline);
  }
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
