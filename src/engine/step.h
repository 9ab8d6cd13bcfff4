// The end of a step: the ranks agree whether it happened, its results are written and its state
// taken over, and whoever submitted its buckets is told.
//
// Used by the thread that runs the last round, by the encoder's before the first bucket of a step,
// and by others while no bucket is under way.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "src/engine/accounts.h"
#include "src/engine/agreement.h"
#include "src/engine/exchange.h"
#include "src/engine/run_state.h"

namespace lgreco {

class Step {
 public:
  /// `agreement` joins the ranks that commit together, the `membership`. All must outlive it.
  Step(RunState& run, Accounts& accounts, const AggregatorOptions& options,
       const Membership& membership, Communicator& agreement, Trace& trace);

  /// Announces the agreement, before the last bucket's last round; see Communicator::expect.
  void expect() const { commit_.expect(agreement_); }
  /// `exchange` has passed its last round.
  void add(Exchange& exchange);
  /// After the last bucket: agree, commit or undo, release, and settle(), unless the step may still
  /// be taken back. Throws when the ranks cannot know any more that they agree; release() is left
  /// to the caller then.
  void end();
  /// What follows the newest step, if that is still to be done: decisions, plans. As end().
  void settle();
  /// Hand the results of the buckets so far to whoever submitted them.
  void release(const std::exception_ptr& failure);

  /// Collective: the layers that some rank gives. Throws on all ranks when one has a `problem`.
  std::vector<bool> agree_on_layers(const std::vector<bool>& given,
                                    const std::optional<Failure>& problem);

  bool discard_last();
  /// A state was loaded: what was seen of parameters before it is of no use.
  void forget_sample() { sample_ = 0; }

  /// Of the newest bucket.
  std::uint32_t sequence() const { return sequence_; }

  /// How the message of a failure in this step begins.
  std::string place(const char* doing) const;

 private:
  Frame frame() const;
  template <typename Work>
  void at(const char* doing, const Work& work) const;
  CommitRound::Outcome agree();
  bool commit(bool overflowed);

  RunState& run_;
  Accounts& accounts_;
  const AggregatorOptions& options_;
  const Membership& membership_;
  Communicator& agreement_;
  Trace& trace_;
  CommitRound commit_;
  std::uint32_t sequence_ = 0;                    // of the newest bucket
  std::size_t buckets_ = 1;                       // of the newest step
  std::uint64_t sample_ = 0, newest_sample_ = 0;  // of parameters, when steps were agreed on
  std::vector<std::uint64_t> parameter_hashes_;
  std::vector<Exchange*> exchanges_;  // of this step's buckets, in order
};

}  // namespace lgreco
