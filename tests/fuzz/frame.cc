// Input: byte 0: 0 the message as it is, 1 with a right length and checksum; then the message.

#include <xxhash.h>

#include "src/engine/frame.h"
#include "tests/fuzz/fuzz_input.h"

using namespace lgreco;

namespace {

constexpr std::size_t kLengthAt = 32;

const Frame kExpected{.phase = Phase::gather_b, .sender = 2, .sequence = 7, .step = 9, .plan = 11};

void fix_checksum(std::vector<std::byte>& message) {
  message.resize(std::max(message.size(), kFrameBytes));
  const std::uint64_t length = message.size();
  std::memcpy(message.data() + kLengthAt, &length, sizeof length);
  const std::uint64_t sum = XXH3_64bits(message.data(), message.size() - sizeof sum);
  std::memcpy(message.data() + message.size() - sizeof sum, &sum, sizeof sum);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const bool fixes = input.take<std::uint8_t>() % 2 == 1;
  std::vector<std::byte> message = input.rest();
  if (fixes) fix_checksum(message);
  bool failed = false;
  if (!check(kExpected, message, failed).is_ok()) return 0;
  // Nothing but what the sender would have written may be accepted.
  Frame frame = kExpected;
  frame.failed = failed;
  std::vector<std::byte> again = message;
  seal(frame, again);
  fuzz::require(again == message, "an accepted message is the one that was expected");
  return 0;
}
