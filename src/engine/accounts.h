// What an aggregator counts: what its communicators carried, and what its steps added.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/groups.h"
#include "lgreco/state.h"

namespace lgreco {

using Lanes = std::vector<std::unique_ptr<CountingCommunicator>>;

/// The communicators that carry an aggregator's messages.
class CountedGroups {
 public:
  /// Throws ConfigError unless there are one or two lanes.
  explicit CountedGroups(Groups groups);

  const Lanes& lanes() const { return lanes_; }
  /// Of those who commit together: the last lane, unless others do than those who average.
  CountingCommunicator& agreement() const {
    return own_agreement_ ? *own_agreement_ : *lanes_.back();
  }
  bool has_own_agreement() const { return own_agreement_ != nullptr; }
  Traffic traffic() const;
  /// Thread-safe.
  void abort() const;

 private:
  Lanes lanes_;
  std::unique_ptr<CountingCommunicator> own_agreement_;
};

class Accounts {
 public:
  /// `groups` must outlive it.
  explicit Accounts(const CountedGroups& groups) : groups_(groups) {}

  /// Take over what they carried since the last call. REQUIRES: none is in use.
  void add_traffic();
  /// Of no step: count nothing of it. As add_traffic().
  void leave_out_traffic();
  /// What an uncompressed ring all-reduce of `gradient_bytes` would have sent.
  void add_dense_bytes(std::uint64_t gradient_bytes, int ranks);
  /// Go on from another run's counters.
  void resume(const Stats& loaded);

  Stats stats;

  /// Let other threads see the notices of `stats`, without waiting for each other.
  void publish_notices();
  Notices notices() const;

 private:
  const CountedGroups& groups_;
  std::atomic<std::uint64_t> dropped_residuals_{0}, unapplied_steps_{0}, large_residual_steps_{0};
  Traffic counted_;  // what of their traffic is in `stats`
};

}  // namespace lgreco
