#include "tests/fuzz/codec_fuzz.h"

using namespace lgreco;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::run_codec(
      {data, size}, [](std::uint8_t) { return Level{}; },
      [](const Level&, std::span<const float>) {});
  return 0;
}
