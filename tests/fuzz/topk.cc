#include "tests/fuzz/codec_fuzz.h"

using namespace lgreco;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr double kDensities[] = {1, 0.1, 0.01, 0.75, 0.001, 0.3, 1e-6, 0.5};
  constexpr std::uint8_t kBits[] = {0, 0, 2, 3, 4, 5, 6, 8};
  fuzz::run_codec(
      {data, size},
      [&](std::uint8_t which) {
        return Level{.method = Method::topk,
                     .parameter = kDensities[which % 8],
                     .values = which < 128 ? DType::bf16 : DType::f32,
                     .value_bits = which < 128 ? kBits[which / 16] : std::uint8_t{0}};
      },
      [](const Level& level, std::span<const float> values) {
        const double kept = std::round(level.parameter * static_cast<double>(values.size()));
        const auto found = std::count_if(values.begin(), values.end(), [](float v) { return v; });
        fuzz::require(static_cast<double>(found) <= std::max(1.0, kept), "at most k are not zero");
      });
  return 0;
}
