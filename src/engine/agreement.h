// What makes the ranks one: equal settings before the first step, an equal verdict after each step,
// equal parameters now and then.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lgreco/options.h"
#include "src/engine/failure.h"
#include "src/engine/messages.h"

namespace lgreco {

/// Pairs of (what, value).
using Fingerprint = std::vector<std::pair<std::string, std::string>>;

/// The layers, and the settings that change results: of one run, whatever the number of ranks.

Fingerprint fingerprint_of(const std::vector<LayerSpec>& layers, const AggregatorOptions& options);

/// Everything that must be equal on all ranks.
Fingerprint registration_of(const Fingerprint& fingerprint, const AggregatorOptions& options);
std::uint64_t hash_of(const Fingerprint& fingerprint);

/// Collective. Throws the same MismatchError on every rank, naming the first field that differs and
/// who has what.
void require_same(const Fingerprint& fingerprint, Communicator& communicator, Deadline deadline);

/// The last collective of a step: did every bucket succeed on every rank?
class CommitRound {
 public:
  explicit CommitRound(Place place);

  /// What the ranks agreed on.
  struct Outcome {
    /// Of the lowest rank that has a failure of its own; the same on all ranks.
    std::optional<Failure> failure;
    /// Ranks that compare something have not all the same.
    bool values_differ = false;
  };

  /// Announces agree(), see Communicator::expect.
  void expect(Communicator& communicator) const { messages_.expect(communicator); }
  /// Collective. `value` is compared with the other ranks' unless it is 0. Throws PeerError, and
  /// ProtocolError when a message is damaged: then the ranks may not agree any more.
  Outcome agree(Communicator& communicator, const Frame& frame, Deadline deadline,
                const std::optional<Failure>& failure, std::uint64_t value);

  /// Seconds that the frames of the last agree() took.
  double check_s() const { return messages_.check_s(); }

 private:
  std::string message_of(int rank, const std::optional<Failure>& failure,
                         Communicator& communicator, const Frame& frame, Deadline deadline) const;

  Place place_;
  Messages messages_;
};

/// XXH3-64 of each layer's parameter.
void hash_parameters(const AggregatorOptions& options, std::span<std::uint64_t> hashes);
std::uint64_t hash_of(std::span<const std::uint64_t> hashes);

/// Collective: which layer differs, where. Called when hashes differ; zeros are not compared.
Failure describe_drift(std::span<const std::uint64_t> hashes, const std::vector<LayerSpec>& layers,
                       Place place, Communicator& communicator, const Frame& frame,
                       Deadline deadline);

}  // namespace lgreco
