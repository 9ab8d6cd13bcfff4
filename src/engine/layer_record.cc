#include "src/engine/layer_record.h"

#include <xxhash.h>

namespace lgreco {

LayerRecord::LayerRecord(LayerSpec layer)
    : spec(std::move(layer)),
      shape(spec.matrix()),
      id(XXH3_64bits(spec.name.data(), spec.name.size())) {
  use(Level{});
}

void LayerRecord::use(const Level& new_level) {
  level = new_level;
  coded = is_coded(level.method) ? coded_compressor(level) : nullptr;
  linear = is_coded(level.method) ? nullptr : linear_compressor(level);
}

}  // namespace lgreco
