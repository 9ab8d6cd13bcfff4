// What the ranks do together with states, between two steps: load theirs, or make one of them all.
//
// Used by one thread at a time, while no bucket is under way. `sequence` is that of the newest
// bucket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/engine/accounts.h"
#include "src/engine/agreement.h"
#include "src/engine/run_state.h"

namespace lgreco {

class StateRounds {
 public:
  /// `agreement` joins the ranks that commit together, the `membership`. All must outlive it.
  StateRounds(RunState& run, Accounts& accounts, const AggregatorOptions& options,
              const Membership& membership, Communicator& agreement);

  /// Collective: all ranks load their states, or none does. Without a state: `problem` says why.
  /// Throws StateError on all ranks when one cannot.
  void load(std::optional<AggregatorState> state, const std::string& problem,
            std::uint32_t sequence);
  /// Collective: the state of all ranks together; `lane` joins those who hold this rank's layers.
  /// Throws on all ranks alike.
  AggregatorState portable_state(const Stats& stats, Communicator& lane, std::uint32_t sequence);
  /// Collective: what each rank has to say.
  std::vector<std::string> gather(const std::string& own);

 private:
  std::string place(const char* doing) const;
  CommitRound::Outcome agree_to_load(const std::optional<Failure>& own, std::uint64_t identity,
                                     std::uint32_t sequence);

  RunState& run_;
  Accounts& accounts_;
  const AggregatorOptions& options_;
  const Membership& membership_;
  Communicator& agreement_;
  CommitRound commit_;
};

}  // namespace lgreco
