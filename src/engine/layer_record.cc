#include "src/engine/layer_record.h"

#include <xxhash.h>

namespace lgreco {

LayerRecord::LayerRecord(LayerSpec layer, DType residual_dtype)
    : spec(std::move(layer)),
      shape(spec.matrix()),
      id(XXH3_64bits(spec.name.data(), spec.name.size())),
      residual(residual_dtype) {
  use(Level{}, {});
}

void LayerRecord::use(const Level& new_level, const RandomKey& key) {
  level = new_level;
  coded = nullptr;
  linear = nullptr;
  factor_codec = nullptr;
  if (is_coded(level.method)) {
    coded = coded_compressor(level);
    return;
  }
  linear = linear_compressor(level);
  factor_codec = coded_compressor(level.factors == DType::f32
                                      ? Level{}
                                      : Level{.method = Method::cast, .values = level.factors});
  linear->prepare(shape, key, linear_state);
}

}  // namespace lgreco
