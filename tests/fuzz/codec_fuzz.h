// The body of the targets of coded methods.
//
// Input: byte 0 what to do (bit 0: make the payload fit; bit 1: encode first; bit 2: many values),
// byte 1 which level, bytes 2 and 3 how many values, then the payload, or the values to encode.
#pragma once

#include "lgreco/compressor.h"
#include "tests/fuzz/fuzz_input.h"

namespace lgreco::fuzz {

inline constexpr std::uint8_t kFit = 1, kEncode = 2, kMany = 4;
// Few for speed; many go beyond every block that a codec works in.
inline constexpr std::size_t kFewCount = 256, kManyCount = 2200;

inline std::vector<std::byte> payload_of(const CodedCompressor& codec, std::size_t count,
                                         std::uint8_t what, const Input& input) {
  if ((what & kEncode) == 0) {
    return (what & kFit) != 0 ? input.rest(codec.payload_bytes(count)) : input.rest();
  }
  std::vector<std::byte> payload(codec.payload_bytes(count));
  if (!codec.encode(input.floats(count), {.seed = 1, .step = 2, .layer = 3}, 0, payload)) return {};
  std::vector<float> values(count);
  require(codec.decode_add(payload, values).is_ok(), "what encode writes is decoded");
  return payload;
}

/// `level_of(byte 1)` is one of the method's levels. `check(level, values)` looks at what was
/// decoded.
template <typename LevelOf, typename Check>
void run_codec(Input input, const LevelOf& level_of, const Check& check) {
  const auto what = input.take<std::uint8_t>();
  const Level level = level_of(input.take<std::uint8_t>());
  const std::size_t count =
      input.take<std::uint16_t>() % ((what & kMany) != 0 ? kManyCount : kFewCount);
  const auto codec = coded_compressor(level);
  const std::vector<std::byte> payload = payload_of(*codec, count, what, input);

  std::vector<float> values(count);
  const Status status = codec->decode_add(payload, values);
  if (!status.is_ok()) return;
  require(payload.size() == codec->payload_bytes(count), "the size follows from the level");
  require(all_finite(values), "decoded values are finite");
  check(level, values);
  std::transform(values.begin(), values.end(), values.begin(), std::negate<>());
  require(codec->decode_add(payload, values).is_ok(), "the same payload is accepted again");
  require(std::all_of(values.begin(), values.end(), [](float value) { return value == 0; }),
          "adding the same to the opposite gives zero");
}

}  // namespace lgreco::fuzz
