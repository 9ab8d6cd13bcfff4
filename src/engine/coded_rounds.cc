#include "src/engine/coded_rounds.h"

#include <numeric>
#include <string>

#include "lgreco/status.h"
#include "src/base/random.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

std::vector<std::span<std::byte>> slots_of(std::span<std::byte> buffer,
                                           const std::vector<std::size_t>& sizes) {
  std::vector<std::span<std::byte>> slots;
  std::size_t at = 0;
  for (std::size_t size : sizes) {
    slots.push_back(buffer.subspan(at, size));
    at += size;
  }
  return slots;
}

std::size_t total(const std::vector<std::size_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
}

}  // namespace

CodedRounds::CodedRounds(std::vector<ExchangePart*> parts, const ExchangeSettings& settings,
                         int rank, int ranks)
    : parts_(std::move(parts)), settings_(settings), rank_(rank), ranks_(ranks) {
  std::vector<const LayerRecord*> records;
  for (const ExchangePart* part : parts_) records.push_back(part->record);
  layout_ = shard_layout(records, ranks);
  const auto own = static_cast<std::size_t>(rank);

  std::size_t sent = 0;
  for (std::size_t owner = 0; owner < layout_.message_bytes.size(); ++owner) {
    send_at_.push_back(sent);
    if (owner != own) sent += layout_.message_bytes[owner];
  }
  sent_.resize(sent);
  received_.resize(layout_.message_bytes[own] * static_cast<std::size_t>(ranks - 1));
  own_message_.resize(layout_.message_bytes[own]);
  gathered_.resize(total(layout_.message_bytes));

  std::size_t owned = 0;
  for (const Piece& piece : layout_.pieces) owned += piece.owner == rank ? piece.count : 0;
  sums_.resize(owned);
}

RandomKey CodedRounds::key(const ExchangePart& part, std::uint64_t stage) const {
  const std::uint64_t sender = 2 * static_cast<std::uint64_t>(rank_) + stage;
  return {settings_.seed ^ mix64(sender), settings_.step, part.record->id};
}

std::span<std::byte> CodedRounds::message_to(int owner) {
  const auto index = static_cast<std::size_t>(owner);
  return std::span(sent_).subspan(send_at_[index], layout_.message_bytes[index]);
}

std::span<const std::byte> CodedRounds::sent_message(int owner) const {
  const auto index = static_cast<std::size_t>(owner);
  return std::span(sent_).subspan(send_at_[index], layout_.message_bytes[index]);
}

void CodedRounds::write_flags(std::span<std::byte> message) const {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    message[i] = static_cast<std::byte>(parts_[i]->presence);
  }
}

void CodedRounds::read_flags(std::span<const std::byte> message) {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (message[i] > static_cast<std::byte>(Presence::non_finite)) {
      throw ProtocolError("[exchange] layer '" + parts_[i]->record->spec.name +
                          "': a peer's flag byte is " +
                          std::to_string(std::to_integer<int>(message[i])));
    }
    parts_[i]->agree(static_cast<Presence>(message[i]));
  }
}

void CodedRounds::encode() {
  for (const Piece& piece : layout_.pieces) {
    if (piece.owner == rank_) continue;
    ExchangePart& part = *parts_[piece.part];
    const std::span<std::byte> payload = message_to(piece.owner).subspan(piece.offset, piece.bytes);
    if (!part.record->coded->encode(part.values.subspan(piece.first, piece.count), key(part, 0),
                                    piece.first, payload)) {
      part.presence = Presence::non_finite;
    }
  }
  // After the encoding, which may have found a value that cannot be represented.
  for (int owner = 0; owner < ranks_; ++owner) {
    if (owner != rank_) write_flags(message_to(owner));
  }
}

void CodedRounds::scatter(Communicator& communicator) {
  if (parts_.empty()) return;
  const auto own = static_cast<std::size_t>(rank_);
  std::vector<std::size_t> send_sizes = layout_.message_bytes;
  send_sizes[own] = 0;
  std::vector<std::size_t> receive_sizes(send_sizes.size(), layout_.message_bytes[own]);
  receive_sizes[own] = 0;
  const auto to_send = slots_of(sent_, send_sizes);
  const std::vector<std::span<const std::byte>> send(to_send.begin(), to_send.end());
  communicator.all_to_all(send, slots_of(received_, receive_sizes));
}

void CodedRounds::decode_piece(const Piece& piece, std::span<const std::byte> message, int peer,
                               std::span<float> accumulator) const {
  const LayerRecord& record = *parts_[piece.part]->record;
  const Status status =
      record.coded->decode_add(message.subspan(piece.offset, piece.bytes), accumulator);
  if (!status.is_ok()) {
    throw ProtocolError("[exchange] layer '" + record.spec.name + "', message of rank " +
                        std::to_string(peer) + ": " + status.reason());
  }
}

void CodedRounds::reduce() {
  const std::size_t message_size = own_message_.size();
  const auto message_of = [&](int peer) {
    const auto slot = static_cast<std::size_t>(peer < rank_ ? peer : peer - 1);
    return std::span<const std::byte>(received_).subspan(slot * message_size, message_size);
  };
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer != rank_) read_flags(message_of(peer));
  }
  const float share = 1.0f / static_cast<float>(ranks_);
  std::vector<float> mean;
  std::size_t owned = 0;
  for (const Piece& piece : layout_.pieces) {
    if (piece.owner != rank_) continue;
    ExchangePart& part = *parts_[piece.part];
    const std::span<float> sum = std::span(sums_).subspan(owned, piece.count);
    owned += piece.count;
    if (part.presence != Presence::present) continue;
    const std::span<const float> own = part.values.subspan(piece.first, piece.count);
    std::copy(own.begin(), own.end(), sum.begin());
    for (int peer = 0; peer < ranks_; ++peer) {
      if (peer != rank_) decode_piece(piece, message_of(peer), peer, sum);
    }
    mean.resize(piece.count);
    kernels::scale(sum.data(), share, piece.count, mean.data());
    if (!kernels::all_finite(mean.data(), mean.size()) ||
        !part.record->coded->encode(mean, key(part, 1), piece.first,
                                    std::span(own_message_).subspan(piece.offset, piece.bytes))) {
      part.presence = Presence::non_finite;
    }
  }
  write_flags(own_message_);
}

void CodedRounds::gather(Communicator& communicator) {
  if (parts_.empty()) return;
  communicator.all_gather(own_message_, slots_of(gathered_, layout_.message_bytes));
}

void CodedRounds::decode() {
  const auto messages = slots_of(gathered_, layout_.message_bytes);
  for (const auto& message : messages) read_flags(message);
  for (const Piece& piece : layout_.pieces) {
    ExchangePart& part = *parts_[piece.part];
    if (part.presence != Presence::present) continue;
    const std::span<float> result = part.result.subspan(piece.first, piece.count);
    std::fill(result.begin(), result.end(), 0.0f);
    decode_piece(piece, messages[static_cast<std::size_t>(piece.owner)], piece.owner, result);
  }
}

void CodedRounds::commit() {
  if (!settings_.error_feedback) return;
  std::vector<float> sent;
  std::size_t owned = 0;
  for (const Piece& piece : layout_.pieces) {
    ExchangePart& part = *parts_[piece.part];
    const std::span<float> sum =
        std::span(sums_).subspan(owned, piece.owner == rank_ ? piece.count : 0);
    owned += sum.size();
    if (part.presence != Presence::present) continue;
    std::vector<float>& residual = part.record->residual;
    residual.resize(part.record->shape.count());
    float* target = residual.data() + piece.first;
    sent.assign(piece.count, 0.0f);
    if (piece.owner == rank_) {
      kernels::scale(part.result.data() + piece.first, static_cast<float>(ranks_), piece.count,
                     sent.data());
      kernels::subtract(sum.data(), sent.data(), piece.count, target);
    } else {
      decode_piece(piece, sent_message(piece.owner), rank_, sent);
      kernels::subtract(part.values.data() + piece.first, sent.data(), piece.count, target);
    }
  }
}

}  // namespace lgreco
