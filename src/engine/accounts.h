// What an aggregator counts: what its lanes carried, and what its steps added.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/state.h"

namespace lgreco {

/// The communicators that carry an aggregator's messages.
using Lanes = std::vector<std::unique_ptr<CountingCommunicator>>;

/// Throws ConfigError unless there are one or two.
Lanes counted(std::vector<std::unique_ptr<Communicator>> lanes);

class Accounts {
 public:
  /// `lanes` must outlive it.
  explicit Accounts(const Lanes& lanes) : lanes_(lanes) {}

  /// Take over what the lanes carried since the last call. REQUIRES: no lane is in use.
  void add_traffic();
  /// What an uncompressed ring all-reduce of `gradient_bytes` would have sent.
  void add_dense_bytes(std::uint64_t gradient_bytes, int ranks);
  /// Go on from another run's counters.
  void resume(const Stats& loaded);

  Stats stats;

  /// Let other threads see the notices of `stats`, without waiting for each other.
  void publish_notices();
  Notices notices() const;

 private:
  Traffic traffic() const;

  const Lanes& lanes_;
  std::atomic<std::uint64_t> dropped_residuals_{0}, unapplied_steps_{0}, large_residual_steps_{0};
  Traffic counted_;  // what of the lanes' traffic is in `stats`
};

}  // namespace lgreco
