// How buckets pass through a step: three threads hand each one on, and a failure of the network
// ends them all.
//
//   encoder   takes in and encodes bucket k+1 ...
//   lane A    ... while bucket k is in round A ...
//   lane B    ... and bucket k-1 in round B; with the last one it ends the step
//
// With one communicator lane A does lane B's work, too, so that the order of collectives is fixed.
//
// What a step changes of run state and counters, it changes at its end, on lane B; the encoder,
// which takes memory in the layers' records, does not begin the next step before that. What follows
// a step (plans, decisions) comes after it on lane B, too, or, while the step may still be taken
// back, on the encoder's thread before the next one: no bucket of either is on a lane then. Whoever
// else reads or changes them waits until no bucket is under way, also after a failure, which brings
// all of them home soon. So a lock is needed for the counters of buckets and the failure alone.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "lgreco/bucket.h"
#include "lgreco/status.h"
#include "lgreco/values.h"
#include "src/engine/exchange_cache.h"
#include "src/engine/queue.h"
#include "src/engine/run_state.h"
#include "src/engine/step.h"
#include "src/engine/under_way.h"

namespace lgreco {

class Pipeline {
 public:
  /// `values` are of the run's layers, `stateless_values` of those that take part while it is
  /// paused. All must outlive it. Throws std::system_error when the machine gives no more threads.
  Pipeline(RunState& run, Step& step, const CountedGroups& groups, const AggregatorOptions& options,
           Place place, Values& values, Values& stateless_values, Trace& trace);
  /// Waits a little for the step in flight, then gives up on it.
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// See Aggregator::submit.
  void submit(const Bucket& bucket, Done done);
  /// Give up: everything that was submitted, and all that will be, fails with `failure`.
  void abandon(const Failure& failure);

  /// While no bucket is under way: nothing else reads or changes the state then.
  template <typename Function>
  auto when_idle(Function function) {
    const UnderWay::Visit visit(under_way_);
    return function();
  }

  /// Between two steps of a run that has not failed. Throws the failure, and ConfigError inside of
  /// a step.
  template <typename Function>
  auto change(Function function) {
    const UnderWay::Visit visit(under_way_);
    under_way_.require_between_steps();
    return function();
  }

  /// change(), of a collective kind: when the ranks cannot know any more that they agree, nothing
  /// works from here on.
  template <typename Function>
  auto change_together(Function function) {
    return change([&] {
      try {
        return function();
      } catch (const PeerError&) {
        fail(Failure::current(""));
        throw;
      } catch (const ProtocolError&) {
        fail(Failure::current(""));
        throw;
      }
    });
  }

 private:
  /// A submitted bucket.
  struct Ticket {
    Bucket bucket;
    Done done;
    Clock::time_point submitted;
  };

  void fail(const Failure& failure);
  void end_threads();

  void run_encoder();
  void begin_step(std::uint64_t buckets, StepContext& context);
  Exchange* encode(Ticket& ticket, const StepContext& context);
  void reject(Ticket& ticket);
  ExchangeCache& exchanges();

  void run_lane_a();
  void run_lane_b();
  void run_round_a(Exchange& exchange);
  void run_round_b(Exchange* exchange);
  void end_step();
  template <typename Round>
  void attempt(const Exchange& exchange, const char* name, const Round& round);

  RunState& run_;
  Step& step_;
  const CountedGroups& groups_;
  const Lanes& lanes_;
  const AggregatorOptions& options_;
  Place place_;
  Trace& trace_;

  ExchangeCache exchanges_;            // with this plan
  ExchangeCache stateless_exchanges_;  // while paused
  std::uint64_t codecs_ = 0;           // that exchanges_ refer to
  std::uint32_t sequence_ = 0;         // of buckets

  std::mutex submit_mutex_;
  std::vector<bool> in_open_step_;  // by layer: submitted, and the step has not ended
  Ticket ticket_;                   // being filled by submit()

  UnderWay under_way_;

  Queue<Ticket> tickets_;
  Queue<Exchange*> queue_a_, queue_b_;
  std::vector<std::thread> threads_;
};

}  // namespace lgreco
