#include <string_view>

#include "lgreco/compressor.h"
#include "lgreco/status.h"
#include "tests/fuzz/fuzz_input.h"

using namespace lgreco;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<char> spelling(data, data + size);
  Level level;
  try {
    level = parse_level(std::string_view(spelling.data(), spelling.size()));
  } catch (const ConfigError&) {
    return 0;
  }
  fuzz::require(parse_level(to_string(level)) == level, "a spelling comes back");
  for (const LayerSpec& layer : {LayerSpec{.name = "matrix", .shape = {300, 200}},
                                 LayerSpec{.name = "vector", .shape = {5000}, .dtype = DType::f16},
                                 LayerSpec{.name = "scalar", .shape = {}}}) {
    const Level resolved = resolve(level, layer);
    fuzz::require(resolve(resolved, layer) == resolved, "resolving twice is resolving once");
    fuzz::require(payload_bytes(resolved, layer.matrix()) <= layer.count() * sizeof(float),
                  "a resolved level does not enlarge a layer");
  }
  for (const Level& neighbour : neighbours(level)) {
    if (is_coded(neighbour.method)) coded_compressor(neighbour);
  }
  return 0;
}
