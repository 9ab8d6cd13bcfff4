// What a rank computes of a bucket, wherever its values live.
//
// The engine's exchange owns the order of rounds, the messages, the flags of presence and the
// failures, and never looks at a value. It asks a BucketValues to encode, to reduce, to check and
// to finish; between these calls ranks exchange what was written into the bodies of messages.
//
// A layer is summed over the ranks in one round (coded methods, linear ones of one round) or in
// two. In between lies what the second round is computed from:
//
//   encode(0)   one round: what other ranks own      -> scatter A
//               two:       the same of the first sum -> scatter A
//   reduce(0)   two:       means of the first sum       scatter A -> gather A
//   encode(1)   two:       second sum                   gather A  -> scatter B
//   reduce(1)   one round: means                        scatter A -> gather B
//               two:       means of the second sum      scatter B -> gather B
//   check, finish                                       gather B  -> averages, state
//
// A bucket in which every layer has one round makes scatter A and gather B alone: its last, and
// only, round is round 0, and reduce(0) writes gather B.
//
// Where every rank adds up what all have, nothing is scattered and nothing reduced: encode(0)
// writes gather A, and encode(1) gather B, if there is a second round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lgreco/bucket.h"
#include "lgreco/communicator.h"

namespace lgreco {

/// What ranks agree on for each layer: the largest of theirs.
enum class Presence : std::uint8_t { absent = 0, present = 1, non_finite = 2 };

/// The step that an exchange belongs to.
struct StepContext {
  int rank = 0;  // this one, as errors name it: among those that commit together
  std::uint64_t step = 0;
  std::uint64_t plan = 0;        // Plan::hash()
  std::uint32_t sequence = 0;    // of the bucket, since the start
  std::uint32_t bucket = 0;      // in the step, for messages and traces
  bool collect_windows = false;  // of the layers that are measured here
  bool sum_averages = false;
  bool compare_parameters = false;
  Deadline deadline;
};

/// What a step noticed on this rank.
struct Findings {
  /// Some gradient is not all zeros. Known after round 0 is encoded, when
  /// StepContext::compare_parameters.
  bool has_gradient = false;
  /// Some residual is many times its gradient. Known after a commit, when
  /// StepContext::compare_parameters.
  bool has_large_residual = false;
  /// Residuals that were given up after an overflow, since they alone could have caused it.
  std::uint64_t dropped_residuals = 0;
};

/// Bytes of the bodies, by rank: in a scatter of the message to it, in a gather of the one from it.
/// They follow from the plan alone. A collective without bodies (an empty vector) is not made.
struct MessageSizes {
  int rounds = 1;  // 2 when some layer has two
  std::vector<std::size_t> scatter_a, gather_a, scatter_b, gather_b;

  bool has_scatters() const { return !scatter_a.empty(); }
};

/// The bodies of the messages of one collective, by rank.
struct MessageBodies {
  /// Scatter: to each peer; the own one is empty. Gather: this rank's, which everybody gets; the
  /// others are empty.
  std::vector<std::span<std::byte>> out;
  /// From each peer. Scatter: the own one is empty. Gather: the own one is what this rank wrote.
  std::vector<std::span<const std::byte>> in;
};

/// Of a whole bucket; the same memory in every step. Bodies are at least as long as was asked for.
/// What arrives in gather B may lie where scatter A was sent from, and arrive as soon as that was.
/// Those of a collective that is not made have no bodies.
struct BucketBodies {
  MessageBodies scatter_a, gather_a, scatter_b, gather_b;
};

/// The values of some layers at the levels of one plan, used for one step after the other. Calls
/// come from one thread at a time, in the order above, one exchange's on several threads in turn.
/// Calls for other buckets run meanwhile. No call takes memory from the heap in a steady step.
/// After an exception the rest of the step is left out, up to the next start().
class BucketValues {
 public:
  virtual ~BucketValues() = default;

  virtual const MessageSizes& sizes() const = 0;

  /// Begin a step. `gradients` are of the layers that this was made for, in their order; their
  /// memory is used until finish().
  virtual void start(std::span<const Gradient> gradients, const StepContext& context) = 0;

  /// By layer: what this rank knows, then, raised by the exchange in between, what ranks agree on.
  /// A stage leaves out the layers that are non-finite by then (what the messages hold of them is
  /// unspecified) and raises those that turn out to be.
  virtual std::span<Presence> presence() = 0;

  /// Write the first message of `round` (0 or 1). Round 0 takes all memory that the step may need.
  /// Throws ProtocolError naming layer and peer when a payload is refused.
  virtual void encode(int round, const BucketBodies& bodies) = 0;
  /// Add up what this rank owns and write the means. Only where there are scatters. Throws
  /// ProtocolError as encode() does.
  virtual void reduce(int round, const BucketBodies& bodies) = 0;
  /// Look at the averages for overflows, the last time that a layer's presence is raised. Throws
  /// ProtocolError as encode() does.
  virtual void check(const BucketBodies& bodies) = 0;
  /// Write the averages: zeros for layers that are absent everywhere, NaN for non-finite ones.
  /// `commit`: take over the state for the next step (error feedback, factors, windows, sums of
  /// averages); otherwise it stays as it was.
  virtual void finish(const BucketBodies& bodies, bool commit) = 0;

  virtual Findings findings() const = 0;
};

/// The values of all layers of a rank.
class Values {
 public:
  virtual ~Values() = default;

  /// For these layers (indices of the registered list) at their present levels. `this` must outlive
  /// it, and so must the levels.
  virtual std::unique_ptr<BucketValues> bucket(std::span<const std::size_t> layers) = 0;
};

}  // namespace lgreco
