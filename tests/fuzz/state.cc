// Input: byte 0: 0 the bytes as they are, 1 with a right length and checksum; then the bytes.

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/some_state.h"

using namespace lgreco;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const bool fixes = input.take<std::uint8_t>() % 2 == 1;
  std::vector<std::byte> bytes = input.rest();
  if (fixes && bytes.size() >= 24) reseal_state(bytes);
  AggregatorState state;
  try {
    state = parse_state(bytes);
  } catch (const StateError&) {
    return 0;
  }
  // Levels may have several spellings, so the first bytes may differ.
  const std::vector<std::byte> once = serialize(state);
  fuzz::require(serialize(parse_state(once)) == once, "what is read is written and read alike");
  std::uint64_t sum;
  std::memcpy(&sum, once.data() + once.size() - sizeof sum, sizeof sum);
  fuzz::require(checksum(state) == sum, "checksum() is that of the bytes");
  try {
    const AggregatorState resized = resize({&state, 1}, 1, 3);
    fuzz::require(resized.layers.size() == state.layers.size(), "resize keeps the layers");
  } catch (const StateError&) {
  }
  return 0;
}
