// What makes the ranks one: equal settings and layers before the first step.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/layer.h"
#include "lgreco/options.h"

namespace lgreco {

/// Pairs of (what, value).
using Fingerprint = std::vector<std::pair<std::string, std::string>>;

/// The layers, and the settings that change results: of one run, whatever the number of ranks.
Fingerprint fingerprint_of(const std::vector<LayerSpec>& layers, const AggregatorOptions& options);

/// Everything that must be equal on all ranks.
Fingerprint registration_of(const Fingerprint& fingerprint, const AggregatorOptions& options);
std::uint64_t hash_of(const Fingerprint& fingerprint);

/// All layers of the model, of which `layers` are registered here.
const std::vector<LayerSpec>& model_of(const std::vector<LayerSpec>& layers,
                                       const AggregatorOptions& options);

/// Collective. Throws the same MismatchError on every rank, naming the first field that differs and
/// who has what.
void require_same(const Fingerprint& fingerprint, Communicator& communicator, Deadline deadline);

}  // namespace lgreco
