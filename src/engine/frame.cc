#include "src/engine/frame.h"

#include <xxhash.h>

#include <bit>
#include <cstring>
#include <string>

namespace lgreco {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

constexpr std::uint32_t kMagic = 0x4F43474C;  // "LGCO"
constexpr std::uint8_t kFailedFlag = 1;

struct Header {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint8_t phase;
  std::uint8_t flags;
  std::uint32_t sender;
  std::uint32_t sequence;
  std::uint64_t step;
  std::uint64_t plan;
  std::uint64_t length;
};
static_assert(sizeof(Header) == kHeaderBytes);

Header header_of(const Frame& frame, std::size_t length) {
  return {.magic = kMagic,
          .version = kWireVersion,
          .phase = static_cast<std::uint8_t>(frame.phase),
          .flags = frame.failed ? kFailedFlag : std::uint8_t{0},
          .sender = frame.sender,
          .sequence = frame.sequence,
          .step = frame.step,
          .plan = frame.plan,
          .length = length};
}

std::uint64_t checksum(std::span<const std::byte> message) {
  return XXH3_64bits(message.data(), message.size() - sizeof(std::uint64_t));
}

template <typename Number>
Status differs(const char* field, Number found, Number expected) {
  return Status::corrupt(std::string(field) + " is " + std::to_string(found) + " instead of " +
                         std::to_string(expected));
}

}  // namespace

void seal(const Frame& frame, std::span<std::byte> message) {
  const Header header = header_of(frame, message.size());
  std::memcpy(message.data(), &header, sizeof header);
  const std::uint64_t sum = checksum(message);
  std::memcpy(message.data() + message.size() - sizeof sum, &sum, sizeof sum);
}

Status check(const Frame& expected, std::span<const std::byte> message, bool& failed) {
  if (message.size() < kFrameBytes) {
    return Status::corrupt("only " + std::to_string(message.size()) + " bytes");
  }
  const Header wanted = header_of(expected, message.size());
  Header found;
  std::memcpy(&found, message.data(), sizeof found);
  if (found.magic != wanted.magic) return differs("magic", found.magic, wanted.magic);
  if (found.version != wanted.version) {
    return differs("wire version", found.version, wanted.version);
  }
  if (found.length != wanted.length) return differs("length", found.length, wanted.length);
  std::uint64_t sum;
  std::memcpy(&sum, message.data() + message.size() - sizeof sum, sizeof sum);
  if (sum != checksum(message)) return Status::corrupt("checksum does not match: damaged");
  if (found.phase != wanted.phase) return differs("phase", found.phase, wanted.phase);
  if (found.sender != wanted.sender) return differs("sender", found.sender, wanted.sender);
  if (found.step != wanted.step) return differs("step", found.step, wanted.step);
  if (found.sequence != wanted.sequence) {
    return differs("sequence number", found.sequence, wanted.sequence);
  }
  if (found.plan != wanted.plan) return differs("plan hash", found.plan, wanted.plan);
  if ((found.flags & ~kFailedFlag) != 0) return differs("flags", found.flags, kFailedFlag);
  failed = found.flags != 0;
  return Status::ok();
}

}  // namespace lgreco
