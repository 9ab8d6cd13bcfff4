#include "tests/fuzz/codec_fuzz.h"

using namespace lgreco;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::run_codec(
      {data, size},
      [](std::uint8_t which) {
        return Level{.method = Method::cast, .values = which % 2 == 0 ? DType::bf16 : DType::f16};
      },
      [](const Level&, std::span<const float>) {});
  return 0;
}
