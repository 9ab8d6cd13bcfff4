#include "src/engine/layer_record.h"

#include "src/engine/shard_layout.h"

namespace lgreco {

LayerRecord::LayerRecord(LayerSpec layer, DType residual_dtype)
    : spec(std::move(layer)), shape(spec.matrix()), id(spec.id()), residual(residual_dtype) {}

void LayerRecord::use(const Level& new_level, const RandomKey& key,
                      std::vector<std::size_t>& load) {
  level = new_level;
  coded = nullptr;
  linear = nullptr;
  factor_codec = nullptr;
  if (is_coded(level.method)) {
    coded = coded_compressor(level);
    owners[0] = choose_owners(shape.count(), *coded, load);
    return;
  }
  linear = linear_compressor(level);
  factor_codec = lgreco::factor_codec(level);
  linear->prepare(shape, key, linear_state);
  for (int round = 0; round < linear->rounds(); ++round) {
    owners[static_cast<std::size_t>(round)] =
        choose_owners(linear->round_floats(shape, round), *factor_codec, load);
  }
}

}  // namespace lgreco
