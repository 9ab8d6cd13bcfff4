#include "tests/fuzz/codec_fuzz.h"

using namespace lgreco;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr double kRates[] = {2, 0.5, 1, 8, 0.1, 4, 0.03, 5.5};
  fuzz::run_codec(
      {data, size},
      [&](std::uint8_t which) {
        return Level{.method = Method::entropy, .parameter = kRates[which % 8]};
      },
      [](const Level&, std::span<const float>) {});
  return 0;
}
