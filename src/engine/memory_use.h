// What compression needs in memory on a rank.
#pragma once

#include <vector>

#include "lgreco/options.h"
#include "lgreco/state.h"
#include "src/engine/layer_record.h"

namespace lgreco {

/// At the layers' present levels.
MemoryUse memory_use(const std::vector<LayerRecord>& layers, const AggregatorOptions& options,
                     int ranks);

}  // namespace lgreco
