#include "tests/fuzz/codec_fuzz.h"

using namespace lgreco;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint32_t kBuckets[] = {64, 8, 4096, 40};
  fuzz::run_codec(
      {data, size},
      [&](std::uint8_t which) {
        return Level{.method = Method::quantize,
                     .parameter = 1.0 + which % 8,
                     .bucket = kBuckets[which / 8 % 4],
                     .rounding = which < 128 ? Rounding::stochastic : Rounding::nearest};
      },
      [](const Level&, std::span<const float>) {});
  return 0;
}
