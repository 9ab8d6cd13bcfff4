// States and counters as dicts of tensors and numbers, which torch.save writes and
// torch.load(weights_only=True) reads. All of it with the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "lgreco/layer.h"
#include "lgreco/state.h"

namespace lgreco {

pybind11::dict stats_to_dict(const Stats& stats);

/// `layers` are those of the state, in its order. A portable state has "portable" in the place of
/// rank and size.
pybind11::dict state_to_dict(const AggregatorState& state, const std::vector<LayerSpec>& layers);

/// Throws StateError on an entry that is missing, of a wrong type, or not what was saved.
AggregatorState state_from_dict(const pybind11::dict& dict);

}  // namespace lgreco
