// What keeps the ranks one: an equal verdict after each step, equal parameters now and then.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lgreco/options.h"
#include "src/engine/failure.h"
#include "src/engine/membership.h"
#include "src/engine/messages.h"

namespace lgreco {

/// What else the ranks must agree on when they agree on anything: it decides on the sizes of the
/// messages to come, or on what their values mean. A call that one rank alone made shows here.
struct Terms {
  enum class Purpose : std::uint64_t { end_of_step, plan, state, layers, portable_state };

  Purpose purpose = Purpose::end_of_step;
  std::uint64_t step = 0;
  std::uint64_t plan = 0;  // Plan::hash()
  double grad_scale = 0;
  std::uint64_t resets = 0;
  bool learning_rate_decayed = false;
  bool paused = false;

  bool operator==(const Terms&) const = default;
};

/// The last collective of a step: did every bucket succeed on every rank?
class CommitRound {
 public:
  /// `membership` must outlive it.
  explicit CommitRound(const Membership& membership);

  /// What one rank says.
  struct Opinion {
    const std::optional<Failure>& failure;
    /// Compared with those of other ranks, unless it is 0: of everybody, or of those who average
    /// with this one.
    std::uint64_t value = 0;
    enum class Whose : std::uint8_t { everybody, peers } whose = Whose::everybody;
    /// Compare only with those, and when all of those, who have said so, too.
    bool if_all = false;
    /// Something was not finite.
    bool overflowed = false;
  };

  /// What the ranks agreed on: the same on all of them, but for `all_compared`.
  struct Outcome {
    /// Different terms, or the failure of the lowest rank that has one of its own.
    std::optional<Failure> failure;
    /// Ranks that compare something have not all the same.
    bool values_differ = false;
    /// All whose values were compared with this rank's said `if_all`.
    bool all_compared = false;
    bool overflowed = false;  // somewhere
  };

  /// Announces agree(), see Communicator::expect.
  void expect(Communicator& communicator) const { messages_.expect(communicator); }
  /// Collective. `sequence` is that of the newest bucket. Throws PeerError, and ProtocolError when
  /// a message is damaged: then the ranks may not agree any more.
  Outcome agree(Communicator& communicator, std::uint32_t sequence, Deadline deadline,
                const Opinion& own, const Terms& terms);

  /// Seconds that the frames of the last agree() took.
  double check_s() const { return messages_.check_s(); }

 private:
  void compare(std::span<const int> ranks, Outcome& outcome) const;
  std::string message_of(int rank, const std::optional<Failure>& failure,
                         Communicator& communicator, const Frame& frame, Deadline deadline) const;

  const Membership& membership_;
  Place place_;
  Messages messages_;
  std::vector<int> everybody_;
};

/// Collective: which of this rank's layers some holder has marked, of which `own` are this rank's
/// marks.
std::vector<bool> layers_of_any(const std::vector<bool>& own, const Membership& membership,
                                Communicator& communicator, std::uint32_t sequence,
                                Deadline deadline);

/// XXH3-64 of each parameter.
void hash_parameters(const AggregatorOptions& options, std::span<std::uint64_t> hashes);
std::uint64_t hash_of(std::span<const std::uint64_t> hashes);

/// Collective: which layer differs, where: the same on every rank. Called when hashes differ
/// between ranks that hold the same layers or, when every rank has hashes of the whole `model`,
/// between any; zeros are not compared.
Failure describe_drift(std::span<const std::uint64_t> hashes, const std::vector<LayerSpec>& model,
                       const Membership& membership, Communicator& communicator, const Frame& frame,
                       Deadline deadline);

}  // namespace lgreco
