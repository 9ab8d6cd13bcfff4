// The state that is no rank's own: of the whole model, the same on every rank, for any number of
// them. Made by all ranks together, and taken apart by each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/layer.h"
#include "lgreco/state.h"
#include "src/engine/membership.h"
#include "src/engine/place.h"

namespace lgreco {

/// Collective: the ranks' states as one (AggregatorState::is_portable), with the layers of `model`
/// in its order. `own` is this rank's, `lane` joins those who hold its layers, `agreement` all of
/// the membership. Residuals become their mean, added up in fp64 in the order of the ranks and
/// rounded once: the same bits on every rank, and those of resize(). A layer's window is that of
/// the rank that measures it, counters are those of rank 0 of the agreement.
/// Throws PeerError, and StateError on a damaged message, which only this rank may have got.
AggregatorState join_states(AggregatorState own, const std::vector<LayerSpec>& model,
                            const Membership& membership, Communicator& lane,
                            Communicator& agreement, Deadline deadline);

/// What a rank that holds `layers` takes of a portable state: of these layers everything, the
/// residual too, so that the ranks' mean is what it was. Throws StateError when it lacks a layer.
AggregatorState part_of_state(AggregatorState portable, const std::vector<LayerSpec>& layers,
                              Place place);

}  // namespace lgreco
