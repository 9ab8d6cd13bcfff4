#include "lgreco/aggregator.h"

#include <future>
#include <optional>
#include <utility>

#include "lgreco/status.h"
#include "src/engine/host_values.h"
#include "src/engine/network_probe.h"
#include "src/engine/pipeline.h"
#include "src/engine/registration.h"
#include "src/engine/state_rounds.h"

namespace lgreco {
namespace {

AggregatorOptions checked(AggregatorOptions options) {
  if (options.threads < 1) throw ConfigError("[aggregator] threads must be at least 1");
  if (options.timeout.count() <= 0 || options.timeout > kLongestTimeout) {
    throw ConfigError("[aggregator] timeout must be positive and at most a year");
  }
  if (options.residual == DType::f16) {
    throw ConfigError("[aggregator] residuals are kept in fp32 or bf16, not in fp16");
  }
  return options;
}

}  // namespace

// The parts, each below the next: counters and state, the end of a step, the threads.
struct Aggregator::Impl {
  Impl(std::vector<LayerSpec> layers, AggregatorOptions asked, Groups communicators)
      : options(checked(std::move(asked))),
        groups(std::move(communicators)),
        place{groups.lanes()[0]->rank(), groups.lanes()[0]->size()},
        membership(membership_of(layers)),
        pool(options.threads),
        accounts(groups),
        run(std::move(layers), options, place, membership, trace),
        values(run.layers(), {place, options.seed, options.error_feedback, options.keep_previous},
               pool),
        stateless_values(run.stateless_layers(), {place, options.seed, /*error_feedback=*/false},
                         pool),
        step(run, accounts, options, membership, groups.agreement(), trace),
        states(run, accounts, options, membership, groups.agreement()) {
    const Deadline deadline = Clock::now() + options.timeout;
    Communicator& lane = *groups.lanes()[0];
    if (!groups.has_own_agreement()) {
      require_same(registration_of(fingerprint_of(run.specs(), options), options), lane, deadline);
    }
    if (run.planning().needs_network()) {
      Network network = probe_network(lane, deadline);
      if (groups.has_own_agreement()) network = worst_of(network, groups.agreement(), deadline);
      run.planning().set_network(network);
    }
    accounts.add_traffic();
    run.begin();
    publish();
    pipeline.emplace(run, step, groups, options, place, values, stateless_values, trace);
  }

  /// When others agree than those who average, they compare what they have here.
  Membership membership_of(const std::vector<LayerSpec>& layers) const {
    if (!groups.has_own_agreement()) return one_group(layers, place);
    const Deadline deadline = Clock::now() + options.timeout;
    require_same(registration_of(fingerprint_of(options.model, options), options),
                 groups.agreement(), deadline);
    return gather_membership(layers, *groups.lanes()[0], groups.agreement(), deadline);
  }

  void publish() { accounts.publish(run.step(), run.plan_version()); }

  Stats stats() const {
    Stats stats = accounts.stats;
    stats.steps = run.step();
    stats.residual_norm = run.residual_norm();
    return stats;
  }

  AggregatorState portable_state() {
    return states.portable_state(stats(), *groups.lanes()[0], step.sequence());
  }

  void load(std::optional<AggregatorState> state, const std::string& problem) {
    states.load(std::move(state), problem, step.sequence());
    step.forget_sample();
    publish();
  }

  const AggregatorOptions options;
  CountedGroups groups;
  Place place;  // among those who average
  Membership membership;
  WorkerPool pool;
  Trace trace;
  Accounts accounts;
  RunState run;
  HostValues values, stateless_values;
  Step step;
  StateRounds states;
  std::optional<Pipeline> pipeline;  // once the ranks have agreed to begin
};

Aggregator::Aggregator(std::vector<LayerSpec> layers, AggregatorOptions options, Groups groups)
    : impl_(std::make_unique<Impl>(std::move(layers), std::move(options), std::move(groups))) {}

Aggregator::~Aggregator() = default;

Aggregator::Impl& Aggregator::impl() const { return *impl_.get("[aggregator]"); }

void Aggregator::submit(const Bucket& bucket, std::function<void(std::exception_ptr)> done) {
  impl().pipeline->submit(bucket, std::move(done));
}

void Aggregator::exchange(const Bucket& bucket) {
  if (!bucket.last) {
    throw ConfigError("[aggregator] exchange() waits for the whole step; use submit() for buckets");
  }
  std::promise<void> promise;
  submit(bucket, [&promise](const std::exception_ptr& failure) {
    failure ? promise.set_exception(failure) : promise.set_value();
  });
  promise.get_future().get();
}

void Aggregator::set_grad_scale(double scale) {
  impl().pipeline->change(
      [&] { impl().accounts.stats.dropped_residuals += impl().run.set_grad_scale(scale); });
}

void Aggregator::on_learning_rate_change(double before, double now) {
  impl().pipeline->change([&] { impl().run.on_learning_rate_change(before, now); });
}

void Aggregator::pause(bool paused) {
  impl().pipeline->change([&] { impl().run.pause(paused); });
}

void Aggregator::reset() {
  impl().pipeline->change([&] { impl().run.reset(); });
}

bool Aggregator::discard_last_step() {
  return impl().pipeline->change([&] {
    const bool is_discarded = impl().step.discard_last();
    impl().publish();
    return is_discarded;
  });
}

std::vector<bool> Aggregator::agree_on_layers(const std::vector<bool>& given,
                                              const std::string& problem) {
  std::optional<Failure> failure;
  if (!problem.empty()) failure = Failure{Failure::Kind::config, problem};
  return impl().pipeline->change_together(
      [&] { return impl().step.agree_on_layers(given, failure); });
}

std::vector<std::string> Aggregator::gather(const std::string& own) {
  return impl().pipeline->change_together([&] { return impl().states.gather(own); });
}

const std::vector<LayerSpec>& Aggregator::layers() const { return impl().run.specs(); }

const std::vector<LayerSpec>& Aggregator::model() const { return impl().run.model(); }

MemoryUse Aggregator::memory() const {
  return impl().pipeline->when_idle([&] { return impl().run.memory(); });
}

Plan Aggregator::plan() const {
  return impl().pipeline->when_idle([&] { return impl().run.plan(); });
}

bool Aggregator::in_critical_regime() const {
  return impl().pipeline->when_idle([&] { return impl().run.planning().in_critical_regime(); });
}

Stats Aggregator::stats() const {
  return impl().pipeline->when_idle([&] { return impl().stats(); });
}

AggregatorState Aggregator::state() const {
  return impl().pipeline->when_idle([&] { return impl().run.save(impl().stats()); });
}

AggregatorState Aggregator::portable_state() {
  return impl().pipeline->change_together([&] { return impl().portable_state(); });
}

Notices Aggregator::notices() const { return impl().accounts.notices(); }

Latest Aggregator::latest() const { return impl().accounts.latest(); }

int Aggregator::rank() const { return impl().place.rank; }

int Aggregator::size() const { return impl().place.ranks; }

void Aggregator::load_state(AggregatorState state) {
  impl().pipeline->change_together([&] { impl().load(std::move(state), ""); });
}

void Aggregator::refuse_state(const std::string& reason) {
  impl().pipeline->change_together([&] { impl().load(std::nullopt, reason); });
}

void Aggregator::abandon(const std::string& reason) {
  if (impl_.is_here()) impl().pipeline->abandon({Failure::Kind::config, reason});
}

void Aggregator::start_trace() { impl().trace.start(); }

std::vector<TraceEvent> Aggregator::stop_trace() {
  return impl().pipeline->when_idle([&] { return impl().trace.stop(); });
}

}  // namespace lgreco
