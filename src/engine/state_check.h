// Whether a saved state may become the state of an aggregator.
#pragma once

#include <vector>

#include "lgreco/state.h"
#include "src/engine/layer_record.h"
#include "src/engine/messages.h"

namespace lgreco {

/// Throws StateError saying what does not fit: another rank's, other settings (`fingerprint`),
/// other layers, tensors of a wrong size or with non-finite values, levels that a layer cannot
/// have.
void check_state(const AggregatorState& state, Place place, std::uint64_t fingerprint,
                 const std::vector<LayerRecord>& layers);

}  // namespace lgreco
