#include "src/engine/gather.h"

#include <cstdint>
#include <cstring>

#include "lgreco/status.h"

namespace lgreco {

std::vector<std::vector<std::byte>> gather(std::span<const std::byte> own,
                                           const std::vector<std::size_t>& sizes,
                                           Communicator& communicator, Deadline deadline) {
  std::size_t total = 0;
  for (std::size_t size : sizes) total += size;
  std::vector<std::byte> all(total);
  std::vector<std::span<std::byte>> slots;
  std::size_t at = 0;
  for (std::size_t size : sizes) {
    slots.push_back(std::span(all).subspan(at, size));
    at += size;
  }
  communicator.all_gather(own, slots, deadline);
  std::vector<std::vector<std::byte>> messages;
  messages.reserve(slots.size());
  for (const auto& slot : slots) messages.emplace_back(slot.begin(), slot.end());
  return messages;
}

std::vector<std::string> gather_texts(const std::string& own, Communicator& communicator,
                                      Deadline deadline) {
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 28;
  const std::uint64_t own_length = own.size();
  std::vector<std::size_t> sizes(static_cast<std::size_t>(communicator.size()), sizeof own_length);
  const auto lengths =
      gather(std::as_bytes(std::span(&own_length, 1)), sizes, communicator, deadline);
  for (std::size_t rank = 0; rank < sizes.size(); ++rank) {
    std::uint64_t length;
    std::memcpy(&length, lengths[rank].data(), sizeof length);
    if (length > kLongest) throw ProtocolError("[compress] a rank runs something else than lgreco");
    sizes[rank] = length;
  }
  std::vector<std::string> texts;
  for (const auto& bytes : gather(std::as_bytes(std::span(own)), sizes, communicator, deadline)) {
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return texts;
}

}  // namespace lgreco
