#include "src/engine/step.h"

#include <algorithm>
#include <utility>

#include "lgreco/status.h"
#include "src/base/random.h"
#include "src/base/stopwatch.h"

namespace lgreco {

Step::Step(RunState& run, Accounts& accounts, const AggregatorOptions& options, Place place,
           Communicator& agreement, Trace& trace)
    : run_(run),
      accounts_(accounts),
      options_(options),
      place_(place),
      agreement_(agreement),
      trace_(trace),
      commit_(place),
      parameter_hashes_(run.layers().size()) {}

Frame Step::frame() const {
  return {.sequence = sequence_, .step = run_.step(), .plan = run_.plan_hash()};
}

std::string Step::place(const char* doing) const {
  return "[rank " + std::to_string(place_.rank) + ", step " + std::to_string(run_.step()) + ", " +
         doing + "] ";
}

template <typename Work>
void Step::at(const char* doing, const Work& work) const {
  try {
    work();
  } catch (...) {
    std::rethrow_exception(Failure::current(place(doing)).exception());
  }
}

void Step::add(Exchange& exchange) {
  sequence_ = exchange.context().sequence;
  exchanges_.push_back(&exchange);
}

void Step::release(const std::exception_ptr& failure) {
  for (Exchange* exchange : exchanges_) exchange->complete(failure);
  exchanges_.clear();
}

void Step::end() {
  std::optional<Failure> lost;
  bool committed = false;
  at("commit", [&] {
    lost = agree();
    accounts_.add_traffic();
    if (lost) {
      ++accounts_.stats.failed_steps;
    } else {
      committed = commit();
    }
  });
  const std::size_t buckets = exchanges_.size();
  // The caller computes while the plan changes: only the next step's buckets wait.
  release(lost ? lost->exception() : nullptr);
  if (committed) at("planning", [&] { change_plan_if_due(buckets); });
}

/// Why the step is lost, the same on every rank, if it is.
std::optional<Failure> Step::agree() {
  const StepContext& last = exchanges_.back()->context();
  const TraceSpan span(trace_, "commit", "lane B", run_.step(), last.bucket);
  std::optional<Failure> own;
  for (const Exchange* exchange : exchanges_) {
    if (!own) own = exchange->failure();
  }
  // A rank without any gradient (in torch's Join) does not follow the others' parameters.
  bool compares = false;
  for (const Exchange* exchange : exchanges_) {
    compares |= exchange->context().compare_parameters && exchange->has_gradient();
  }
  std::fill(parameter_hashes_.begin(), parameter_hashes_.end(), 0);
  if (compares && !own) {
    const Stopwatch watch(accounts_.stats.check_s);
    try {
      hash_parameters(options_, parameter_hashes_);
    } catch (...) {
      own = Failure::current(place("comparing parameters"));
    }
  }
  const std::uint64_t hash = compares ? hash_of(parameter_hashes_) : 0;
  auto outcome = commit_.agree(agreement_, frame(), last.deadline, own, hash);
  accounts_.stats.check_s += commit_.check_s();
  if (outcome.failure || !outcome.values_differ) return outcome.failure;
  return describe_drift(parameter_hashes_, run_.specs(), place_, agreement_, frame(),
                        last.deadline);
}

/// false: some gradient was not finite, and the state stays.
bool Step::commit() {
  bool overflowed = false;
  for (const Exchange* exchange : exchanges_) overflowed |= exchange->overflowed();
  Stats& stats = accounts_.stats;
  for (Exchange* exchange : exchanges_) {
    exchange->finish(/*commit=*/!overflowed);
    stats.encode_s += exchange->encode_s;
    stats.decode_s += exchange->decode_s;
    stats.check_s += exchange->check_s;
    accounts_.add_dense_bytes(exchange->gradient_bytes(), place_.ranks);
  }
  if (overflowed) {
    ++stats.overflow_steps;
  } else {
    run_.advance();
  }
  return !overflowed;
}

void Step::change_plan_if_due(std::size_t buckets) {
  const StepEnd end{.step = run_.step(),
                    .frame = frame(),
                    .buckets = buckets,
                    .grad_scale = run_.grad_scale(),
                    .communicator = agreement_,
                    .commit = commit_};
  Stats& stats = accounts_.stats;
  const Stopwatch watch(stats.plan_wait_s);
  if (auto plan = run_.planning().after_step(end, run_.plan(), stats)) run_.use(std::move(*plan));
  accounts_.add_traffic();
}

void Step::load(std::optional<AggregatorState> state, std::string problem) {
  std::uint64_t identity = 0;
  if (state) {
    try {
      run_.check(*state);
      identity = mix64(mix64(state->step) ^ state->plan.hash()) | 1;  // 0 is not compared
    } catch (const StateError& error) {
      problem = error.what();
    }
  }
  std::optional<Failure> own;
  if (!problem.empty()) own = Failure{Failure::Kind::state, problem};
  const Deadline deadline = Clock::now() + options_.timeout;
  const auto outcome = commit_.agree(agreement_, frame(), deadline, own, identity);
  if (own) throw StateError(problem);
  if (outcome.failure) std::rethrow_exception(outcome.failure->exception());
  if (outcome.values_differ) {
    throw StateError("[state] the ranks' states are of different steps or plans; load one save");
  }
  const Stats stats = state->stats;
  run_.load(std::move(*state));
  accounts_.resume(stats);
}

}  // namespace lgreco
