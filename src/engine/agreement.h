// What makes the ranks one: equal settings before the first step, an equal verdict after each step,
// equal parameters now and then.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lgreco/aggregator.h"
#include "src/engine/failure.h"
#include "src/engine/messages.h"

namespace lgreco {

/// Everything that must be equal on all ranks, as (what, value), in the order of importance.
using Fingerprint = std::vector<std::pair<std::string, std::string>>;

Fingerprint fingerprint_of(const std::vector<LayerSpec>& layers, const AggregatorOptions& options,
                           std::size_t lanes);

/// Collective. Throws the same MismatchError on every rank, naming the first field that differs and
/// who has what.
void require_same(const Fingerprint& fingerprint, Communicator& communicator, Deadline deadline);

/// The last collective of a step: did every bucket succeed on every rank?
class CommitRound {
 public:
  explicit CommitRound(Place place);

  /// Collective. The failure of the lowest rank that has one of its own, equal on all ranks;
  /// nothing when all succeeded. `parameters` is a hash of the parameters, or 0 when they are not
  /// compared; `parameters_differ` tells the verdict. Throws PeerError, and ProtocolError when a
  /// message is damaged: then the ranks may not agree any more.
  std::optional<Failure> agree(Communicator& communicator, const Frame& frame, Deadline deadline,
                               const std::optional<Failure>& failure, std::uint64_t parameters,
                               bool& parameters_differ);

 private:
  Place place_;
  Messages messages_;
};

/// XXH3-64 of each layer's parameter.
void hash_parameters(const AggregatorOptions& options, std::span<std::uint64_t> hashes);
std::uint64_t hash_of(std::span<const std::uint64_t> hashes);

/// Collective: which layer differs, where. Called when hashes differ.
Failure describe_drift(std::span<const std::uint64_t> hashes, const std::vector<LayerSpec>& layers,
                       Place place, Communicator& communicator, const Frame& frame,
                       Deadline deadline);

}  // namespace lgreco
