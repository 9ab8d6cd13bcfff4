#include "src/engine/step.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "lgreco/status.h"
#include "src/base/random.h"
#include "src/base/stopwatch.h"
#include "src/engine/registration.h"

namespace lgreco {
namespace {

std::uint64_t identity_of(const std::vector<bool>& layers) {
  std::uint64_t identity = 1;
  for (const bool one : layers) identity = mix64(identity ^ one);
  return identity | 1;
}

/// What the buckets of a step have to say together.
struct Summary {
  std::optional<Failure> failure;
  bool has_gradient = false, overflowed = false;

  explicit Summary(const std::vector<Exchange*>& exchanges) {
    for (const Exchange* exchange : exchanges) {
      if (!failure) failure = exchange->failure();
      has_gradient |= exchange->findings().has_gradient;
      overflowed |= exchange->overflowed();
    }
  }

  /// Of these parameters, unless there is nothing to compare.
  CommitRound::Opinion opinion(const AggregatorOptions& options,
                               std::span<const std::uint64_t> compared) const {
    using Whose = CommitRound::Opinion::Whose;
    return {.failure = failure,
            .value = compared.empty() ? 0 : hash_of(compared),
            .whose = options.model.empty() ? Whose::peers : Whose::everybody,
            .if_all = !has_gradient,
            .overflowed = overflowed};
  }
};

/// Some numbers of some layers.
std::uint64_t sample_of_parameters(const AggregatorOptions& options, std::size_t layers) {
  constexpr std::size_t kLayers = 64;
  const std::size_t stride = (layers + kLayers - 1) / kLayers;
  std::uint64_t sample = 1;
  if (!options.parameter) return sample;
  if (options.parameter_sample) {
    for (const float value : options.parameter_sample()) {
      sample = mix64(sample ^ std::bit_cast<std::uint32_t>(value));
    }
    return sample;
  }
  for (std::size_t layer = 0; layer < layers; layer += stride) {
    const std::span<const std::byte> bytes = options.parameter(layer);
    for (const std::size_t at : {std::size_t{0}, bytes.size() / 8 * 4}) {
      std::uint32_t word = 0;
      const std::size_t count = std::min(sizeof word, bytes.size() - at);
      std::memcpy(&word, bytes.data() + at, count);
      sample = mix64(sample ^ word);
    }
  }
  return sample;
}

}  // namespace

Step::Step(RunState& run, Accounts& accounts, const AggregatorOptions& options,
           const Membership& membership, Communicator& agreement, Trace& trace)
    : run_(run),
      accounts_(accounts),
      options_(options),
      membership_(membership),
      agreement_(agreement),
      trace_(trace),
      commit_(membership),
      parameter_hashes_(model_of(run.specs(), options).size()) {}

Frame Step::frame() const {
  return {.sequence = sequence_, .step = run_.step(), .plan = run_.plan_hash()};
}

std::string Step::place(const char* doing) const {
  return "[rank " + std::to_string(membership_.place.rank) + ", step " +
         std::to_string(run_.step()) + ", " + doing + "] ";
}

template <typename Work>
void Step::at(const char* doing, const Work& work) const {
  try {
    work();
  } catch (...) {
    std::rethrow_exception(Failure::current(place(doing)).exception());
  }
}

// Groups may cut their steps into other numbers of buckets: they count steps together.
void Step::add(Exchange& exchange) {
  if (membership_.is_one_group()) {
    sequence_ = exchange.context().sequence;
  } else if (exchange.last()) {
    ++sequence_;
  }
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
    CommitRound::Outcome outcome = agree();
    lost = std::move(outcome.failure);
    accounts_.add_traffic();
    if (lost) {
      ++accounts_.stats.failed_steps;
    } else {
      committed = commit(outcome.overflowed);
    }
    if (!committed && !run_.is_paused()) run_.keep();
    accounts_.publish(run_.step(), run_.plan_version());
  });
  if (!run_.is_paused()) {
    buckets_ = static_cast<std::size_t>(
        std::count_if(exchanges_.begin(), exchanges_.end(),
                      [](const Exchange* exchange) { return exchange->gradient_bytes() > 0; }));
  }
  // Too late to undo the step on those who have what they need: what fails here ends the run, also
  // on whoever waits for this rank.
  if (!lost) {
    for (Exchange* exchange : exchanges_) exchange->deliver();
  }
  // The caller computes while the plan changes: only the next step's buckets wait.
  release(lost ? lost->exception() : nullptr);
  if (!options_.keep_previous) settle();
}

/// With the reason why the step is lost, the same on every rank, if it is.
CommitRound::Outcome Step::agree() {
  const StepContext& last = exchanges_.back()->context();
  const TraceSpan span(trace_, "commit", "lane B", run_.step(), last.bucket);
  Summary own(exchanges_);
  if (options_.has_gradient) own.has_gradient = options_.has_gradient();
  // In torch's Join, a rank without any gradient does not follow the others' parameters: it is
  // compared only when no rank has one.
  std::fill(parameter_hashes_.begin(), parameter_hashes_.end(), 0);
  if (!own.failure) {
    const Stopwatch watch(accounts_.stats.check_s);
    try {
      if (last.compare_parameters) hash_parameters(options_, parameter_hashes_);
      newest_sample_ = sample_of_parameters(options_, parameter_hashes_.size());
    } catch (...) {
      own.failure = Failure::current(place("comparing parameters"));
    }
  }
  const std::size_t compared = last.compare_parameters ? parameter_hashes_.size() : 0;
  const auto opinion = own.opinion(options_, std::span(parameter_hashes_).first(compared));
  auto outcome = commit_.agree(agreement_, sequence_, last.deadline, opinion, run_.terms());
  accounts_.stats.check_s += commit_.check_s();
  if (outcome.failure || !outcome.values_differ) return outcome;
  if (!own.has_gradient && !outcome.all_compared) {
    std::fill(parameter_hashes_.begin(), parameter_hashes_.end(), 0);
  }
  outcome.failure = describe_drift(parameter_hashes_, options_.model, membership_, agreement_,
                                   frame(), last.deadline);
  return outcome;
}

/// false: some gradient was not finite, and the state stays.
bool Step::commit(bool overflowed) {
  const bool overflowed_here = Summary(exchanges_).overflowed;
  bool has_large_residual = false;
  Stats& stats = accounts_.stats;
  for (Exchange* exchange : exchanges_) {
    // Whoever applies averages looks for what is not finite in them, and has nothing else to see.
    if (overflowed && !overflowed_here) exchange->lose();
    exchange->finish(/*commit=*/!overflowed);
    stats.encode_s += exchange->encode_s;
    stats.decode_s += exchange->decode_s;
    stats.check_s += exchange->check_s;
    accounts_.add_dense_bytes(exchange->gradient_bytes(), membership_.averaging_ranks());
    stats.dropped_residuals += exchange->findings().dropped_residuals;
    has_large_residual |= exchange->findings().has_large_residual;
  }
  if (has_large_residual) ++stats.large_residual_steps;
  if (run_.is_paused()) return true;
  if (overflowed) {
    ++stats.overflow_steps;
    return false;
  }
  // Error feedback takes for granted that each average is applied once, which changes parameters.
  const bool is_unchanged = newest_sample_ == std::exchange(sample_, newest_sample_);
  if (options_.parameter && is_unchanged) ++stats.unapplied_steps;
  run_.advance();
  return true;
}

bool Step::discard_last() {
  if (!run_.discard_last_step()) return false;
  sample_ = 0;  // nobody was to apply it
  return true;
}

void Step::settle() {
  if (!run_.is_unsettled()) return;
  const StepEnd end{.step = run_.step(),
                    .frame = frame(),
                    .terms = run_.terms(),
                    .buckets = buckets_,
                    .grad_scale = run_.grad_scale(),
                    .communicator = agreement_,
                    .commit = commit_};
  at("planning", [&] {
    const Stopwatch watch(accounts_.stats.plan_wait_s);
    run_.settle(end, accounts_.stats);
    accounts_.add_traffic();
  });
  accounts_.publish(run_.step(), run_.plan_version());
}

std::vector<bool> Step::agree_on_layers(const std::vector<bool>& given,
                                        const std::optional<Failure>& problem) {
  const Deadline deadline = Clock::now() + options_.timeout;
  Terms terms = run_.terms();
  terms.purpose = Terms::Purpose::layers;
  CommitRound::Outcome outcome;
  const CommitRound::Opinion own{
      .failure = problem, .value = identity_of(given), .whose = CommitRound::Opinion::Whose::peers};
  at("agreeing on layers",
     [&] { outcome = commit_.agree(agreement_, sequence_, deadline, own, terms); });
  if (outcome.failure) std::rethrow_exception(outcome.failure->exception());
  if (!outcome.values_differ) return given;
  return layers_of_any(given, membership_, agreement_, sequence_, deadline);
}

}  // namespace lgreco
