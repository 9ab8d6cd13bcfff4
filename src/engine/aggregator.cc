#include "lgreco/aggregator.h"

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "lgreco/status.h"
#include "src/base/random.h"
#include "src/base/stopwatch.h"
#include "src/engine/agreement.h"
#include "src/engine/exchange.h"
#include "src/engine/memory_use.h"
#include "src/engine/network_probe.h"
#include "src/engine/planning.h"
#include "src/engine/queue.h"
#include "src/engine/state_check.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

// How long the destructor waits for a step that the peers may still finish with us.
constexpr std::chrono::seconds kGrace(5);

// Buffers of a set of layers that was not seen for so many buckets are given back.
constexpr std::int32_t kRemembered = 4096;

std::vector<LayerRecord> make_records(const std::vector<LayerSpec>& layers, DType residual) {
  std::vector<LayerRecord> records;
  std::set<std::string> names;
  for (const LayerSpec& layer : layers) {
    if (!names.insert(layer.name).second) {
      throw ConfigError("[aggregator] two layers are named '" + layer.name +
                        "'; a name must identify one layer");
    }
    records.emplace_back(layer, residual);
  }
  return records;
}

using Lanes = std::vector<std::unique_ptr<CountingCommunicator>>;

Lanes counted(std::vector<std::unique_ptr<Communicator>> lanes) {
  if (lanes.empty() || lanes.size() > 2) {
    throw ConfigError("[aggregator] one or two communicators are needed, not " +
                      std::to_string(lanes.size()));
  }
  Lanes counting;
  for (auto& lane : lanes) {
    counting.push_back(std::make_unique<CountingCommunicator>(std::move(lane)));
  }
  return counting;
}

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

// Three threads hand each bucket on: encode, lane A, lane B. Lane B ends the step. With one
// communicator lane A does lane B's work, too, so that the order of collectives is fixed.
//
// What a step changes of records, plan, step and statistics, it changes at its end, on lane B; the
// encoder, which takes memory in the records, does not begin the next step before that. Whoever
// else reads or changes them waits until no bucket is under way, also after a failure, which brings
// all of them home soon. So a lock is needed for the counters of buckets and the failure alone.
class Aggregator::Impl {
 public:
  Impl(const std::vector<LayerSpec>& layers, AggregatorOptions options,
       std::vector<std::unique_ptr<Communicator>> lanes)
      : specs(layers),
        options_(checked(std::move(options))),
        records_(make_records(layers, options_.residual)),
        lanes_(counted(std::move(lanes))),
        place_{lanes_[0]->rank(), lanes_[0]->size()},
        pool_(options_.threads),
        planning_(records_, options_, place_, trace_),
        commit_(place_),
        parameter_hashes_(specs.size()),
        in_open_step_(specs.size()) {
    const Fingerprint fingerprint = fingerprint_of(specs, options_);
    require_same(registration_of(fingerprint, options_), *lanes_[0], from_now());
    fingerprint_ = hash_of(fingerprint);
    if (planning_.needs_network()) planning_.set_network(probe_network(*lanes_[0], from_now()));
    add_traffic();
    use(planning_.first_plan());
    try {
      threads_.emplace_back([this] { encode(); });
      threads_.emplace_back([this] { run_lane_a(); });
      if (lanes_.size() == 2) threads_.emplace_back([this] { run_lane_b(); });
    } catch (...) {  // the machine gives no more
      end_threads();
      throw;
    }
  }

  ~Impl() {
    bool unfinished;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kGrace, [this] { return is_idle(); });
      unfinished = !is_idle() || step_is_open_;
    }
    if (unfinished) {
      fail({Failure::Kind::peer, "[aggregator] closed before the step of this bucket had ended"});
    }
    end_threads();
    release(failure_);
  }

  void submit(const Bucket& bucket, Done done) {
    const std::lock_guard lock(submit_mutex_);
    check_bucket(bucket);
    ticket_.gradients.assign(bucket.gradients.begin(), bucket.gradients.end());
    ticket_.last = bucket.last;
    ticket_.done = std::move(done);
    ticket_.submitted = Clock::now();
    {
      const std::lock_guard state_lock(mutex_);
      step_is_open_ = !bucket.last;
      ++submitted_buckets_;
    }
    tickets_.push(ticket_);
  }

  /// While no bucket is under way: nothing else reads or changes the state then.
  template <typename Function>
  auto when_idle(Function function) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_idle(); });
    return function();
  }

  /// Give up: everything that was submitted, and all that will be, fails with `failure`.
  void abandon(const Failure& failure) {
    fail(failure);
    Exchange* nothing = nullptr;
    queue_a_.push(nothing);  // wakes lane B, which releases the buckets of the step
  }

  template <typename Function>
  void change(Function function) {
    when_idle([&] {
      if (failure_) std::rethrow_exception(failure_);
      if (step_is_open_) {
        throw ConfigError("[aggregator] the state cannot change in the middle of a step");
      }
      function();
    });
  }

  Plan plan() const { return plan_; }
  bool in_critical_regime() const { return planning_.in_critical_regime(); }

  Stats stats() const {
    Stats stats = stats_;
    stats.steps = step_;
    double squares = 0;
    for (const LayerRecord& record : records_) squares += record.residual.sum_squares();
    stats.residual_norm = std::sqrt(squares);
    return stats;
  }

  AggregatorState state() const {
    AggregatorState state{.rank = place_.rank,
                          .size = place_.ranks,
                          .step = step_,
                          .fingerprint = fingerprint_,
                          .grad_scale = grad_scale_,
                          .critical = planning_.in_critical_regime(),
                          .plan = plan_,
                          .stats = stats(),
                          .layers = {}};
    for (std::size_t i = 0; i < records_.size(); ++i) {
      const LayerRecord& record = records_[i];
      Window window = planning_.window(i, grad_scale_);
      state.layers.push_back({.residual = record.residual.to_floats(),
                              .factor = record.linear_state.factor,
                              .window = std::move(window.sum),
                              .window_steps = window.steps,
                              .interval_sum = record.interval_sum,
                              .interval_norm = record.interval_norm,
                              .critical = record.critical});
    }
    return state;
  }

  /// Nothing changes before all ranks have said that they can load theirs, and that it is of the
  /// same step and plan.
  void load_state(std::optional<AggregatorState> state, std::string problem) {
    std::uint64_t identity = 0;
    if (state) {
      try {
        check_state(*state, place_, fingerprint_, records_);
        identity = mix64(mix64(state->step) ^ state->plan.hash()) | 1;  // 0 is not compared
      } catch (const StateError& error) {
        problem = error.what();
      }
    }
    std::optional<Failure> own;
    if (!problem.empty()) own = Failure{Failure::Kind::state, problem};
    const auto outcome = commit_.agree(*lanes_.back(), frame(), from_now(), own, identity);
    if (own) throw StateError(problem);
    if (outcome.failure) std::rethrow_exception(outcome.failure->exception());
    if (outcome.values_differ) {
      throw StateError("[state] the ranks' states are of different steps or plans; load one save");
    }
    std::vector<Residual> residuals;  // the large memory is taken before anything changes
    for (const LayerState& layer : state->layers) {
      residuals.emplace_back(options_.residual).assign(layer.residual);
    }
    for (std::size_t i = 0; i < records_.size(); ++i) {
      LayerState& layer = state->layers[i];
      records_[i].residual = std::move(residuals[i]);
      records_[i].linear_state.factor = std::move(layer.factor);
      records_[i].window = std::move(layer.window);
      records_[i].window_steps = layer.window_steps;
      records_[i].interval_sum = std::move(layer.interval_sum);
      records_[i].interval_norm = layer.interval_norm;
      records_[i].critical = layer.critical;
    }
    step_ = state->step;
    grad_scale_ = state->grad_scale;
    stats_ = state->stats;
    counted_ = traffic();
    planning_.resume(step_, state->critical);
    use(std::move(state->plan));
  }

  void set_grad_scale(double scale) {
    if (!(scale > 0) || !std::isfinite(scale)) {
      throw ConfigError("[aggregator] the gradient scale must be positive and finite");
    }
    const auto factor = static_cast<float>(scale / grad_scale_);
    if (!(factor > 0) || !std::isfinite(factor)) {
      throw ConfigError("[aggregator] the gradient scale cannot change from " +
                        std::to_string(grad_scale_) + " to " + std::to_string(scale));
    }
    grad_scale_ = scale;
    if (factor == 1.0f) return;
    for (LayerRecord& record : records_) {
      record.residual.scale(factor);
      kernels::scale(record.window.data(), factor, record.window.size(), record.window.data());
      kernels::scale(record.interval_sum.data(), factor, record.interval_sum.size(),
                     record.interval_sum.data());
    }
  }

  void on_learning_rate_change(double before, double now) {
    if (!(before >= 0 && now >= 0) || !std::isfinite(before) || !std::isfinite(now)) {
      throw ConfigError("[aggregator] learning rates must be finite and not negative");
    }
    if (now >= before) return;
    if (auto plan = planning_.on_learning_rate_decay(step_, plan_)) use(std::move(*plan));
  }

  MemoryUse memory() const { return memory_use(records_, options_, place_.ranks); }

  Trace& trace() { return trace_; }
  int rank() const { return place_.rank; }
  int size() const { return place_.ranks; }

  const std::vector<LayerSpec> specs;

 private:
  /// A submitted bucket.
  struct Ticket {
    std::vector<Gradient> gradients;
    bool last = true;
    Done done;
    Clock::time_point submitted;
  };

  Deadline from_now() const { return Clock::now() + options_.timeout; }
  RandomKey key(const LayerRecord& record) const { return {options_.seed, step_, record.id}; }
  Frame frame() const { return {.sequence = sequence_, .step = step_, .plan = plan_hash_}; }
  std::string place(const char* doing) const {
    return "[rank " + std::to_string(place_.rank) + ", step " + std::to_string(step_) + ", " +
           doing + "] ";
  }

  void use(Plan plan) {
    exchanges_.clear();  // they refer to the levels' codecs
    std::vector<std::size_t> load(static_cast<std::size_t>(place_.ranks), 0);
    for (std::size_t i = 0; i < records_.size(); ++i) {
      records_[i].use(plan.levels[i], key(records_[i]), load);
    }
    plan_ = std::move(plan);
    plan_hash_ = plan_.hash();
  }

  // -- Failure of the network, or of the agreement: from here on nothing works.

  void fail(const Failure& failure) {
    {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = failure.exception();
      failed_ = true;
    }
    changed_.notify_all();
    for (const auto& lane : lanes_) lane->abort();
  }

  std::exception_ptr failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

  // -- Counting buckets. REQUIRES of the first: the caller holds mutex_.

  bool is_idle() const { return finished_buckets_ == submitted_buckets_; }

  void bucket_has_ended() {
    {
      const std::lock_guard lock(mutex_);
      ++finished_buckets_;
    }
    changed_.notify_all();
  }

  // -- The threads.

  /// Each ends when it has nothing left to do, and closes the next one's queue.
  void end_threads() {
    tickets_.close();
    for (std::thread& thread : threads_) thread.join();
  }

  // -- The encoder's thread.

  void encode() {
    Ticket ticket;
    std::uint64_t buckets = 0;  // before this one
    bool begins_step = true;
    Clock::time_point first_submitted;
    StepContext context;
    for (; tickets_.pop(ticket); ++buckets) {
      if (begins_step) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return finished_buckets_ == buckets; });
        context.deadline = from_now();
        context.bucket = 0;
        first_submitted = ticket.submitted;
      }
      begins_step = ticket.last;
      if (failed_) {
        reject(ticket);
        continue;
      }
      if (ticket.last && trace_.is_on()) {
        trace_.add({"backward", "backward", step_, 0, first_submitted, ticket.submitted});
      }
      context.step = step_;
      context.plan = plan_hash_;
      context.collect_windows = planning_.collects_windows(step_);
      context.sum_averages = planning_.sums_averages(step_);
      context.compare_parameters = compares_parameters();
      context.sequence = ++sequence_;
      Exchange* exchange = nullptr;
      try {
        exchange = &exchange_for(ticket.gradients);
        exchange->start(ticket.gradients, ticket.last, std::move(ticket.done), context);
        ticket.done = nullptr;
        exchange->take_in();
      } catch (...) {
        fail(Failure::current(place("starting a bucket")));
      }
      if (exchange == nullptr) reject(ticket);
      queue_a_.push(exchange);  // without one, lane B releases the earlier buckets of the step
      ++context.bucket;
    }
    queue_a_.close();
  }

  void reject(Ticket& ticket) {
    if (ticket.done) ticket.done(failure());
    ticket.done = nullptr;
    bucket_has_ended();
  }

  Exchange& exchange_for(const std::vector<Gradient>& gradients) {
    for (const auto& exchange : exchanges_) {
      if (exchange->fits(gradients)) return *exchange;
    }
    const Exchange::Settings settings{place_, options_.seed, options_.error_feedback};
    exchanges_.push_back(std::make_unique<Exchange>(gradients, records_, settings, pool_, trace_));
    return *exchanges_.back();
  }

  // -- The lanes' threads.

  void run_lane_a() {
    Exchange* exchange = nullptr;
    while (queue_a_.pop(exchange)) {
      if (exchange != nullptr) run_round_a(*exchange);
      if (lanes_.size() == 2) {
        queue_b_.push(exchange);
      } else {
        run_round_b(exchange);
      }
    }
    queue_b_.close();
  }

  void run_lane_b() {
    Exchange* exchange = nullptr;
    while (queue_b_.pop(exchange)) run_round_b(exchange);
  }

  void run_round_a(Exchange& exchange) {
    attempt(exchange, "round A", [&] { exchange.round_a(*lanes_[0]); });
  }

  void run_round_b(Exchange* exchange) {
    if (exchange != nullptr) {
      attempt(*exchange, "round B", [&] {
        Communicator& lane = *lanes_.back();
        exchange->expect_round_b(lane);
        if (exchange->last()) commit_.expect(lane);
        exchange->round_b(lane);
      });
      step_exchanges_.push_back(exchange);
    }
    if (failed_) {
      release(failure());
    } else if (exchange->last()) {
      end_step();
    }
    if (exchange != nullptr) bucket_has_ended();
  }

  template <typename Round>
  void attempt(const Exchange& exchange, const char* name, const Round& round) {
    if (failed_) return;
    try {
      round();
    } catch (...) {
      const StepContext& at = exchange.context();
      fail(Failure::current("[rank " + std::to_string(place_.rank) + ", step " +
                            std::to_string(at.step) + ", bucket " + std::to_string(at.bucket) +
                            ", " + name + "] "));
    }
  }

  /// Hand the results of the step so far to whoever submitted its buckets.
  void release(const std::exception_ptr& failure) {
    for (Exchange* exchange : step_exchanges_) exchange->complete(failure);
    step_exchanges_.clear();
  }

  // -- The end of a step, on the last lane's thread.

  void end_step() {
    bool committed = false;
    try {
      const std::optional<Failure> lost = agree();
      add_traffic();
      if (lost) {
        ++stats_.failed_steps;
        release(lost->exception());
        return;
      }
      committed = commit();
      forget_unused_exchanges();
    } catch (...) {
      fail(Failure::current(place("commit")));
      release(failure());
      return;
    }
    const std::size_t buckets = step_exchanges_.size();
    release(nullptr);
    if (committed) change_plan_if_due(buckets);
  }

  /// Why the step is lost, the same on every rank, if it is.
  std::optional<Failure> agree() {
    const Deadline deadline = step_exchanges_.back()->context().deadline;
    const TraceSpan span(trace_, "commit", "lane B", step_,
                         step_exchanges_.back()->context().bucket);
    std::optional<Failure> own;
    for (const Exchange* exchange : step_exchanges_) {
      if (!own) own = exchange->failure();
    }
    // A rank without any gradient (in torch's Join) does not follow the others' parameters.
    bool compares = false;
    for (const Exchange* exchange : step_exchanges_) {
      compares |= exchange->context().compare_parameters && exchange->has_gradient();
    }
    std::fill(parameter_hashes_.begin(), parameter_hashes_.end(), 0);
    if (compares && !own) {
      const Stopwatch watch(stats_.check_s);
      try {
        hash_parameters(options_, parameter_hashes_);
      } catch (...) {
        own = Failure::current(place("comparing parameters"));
      }
    }
    const std::uint64_t hash = compares ? hash_of(parameter_hashes_) : 0;
    auto outcome = commit_.agree(*lanes_.back(), frame(), deadline, own, hash);
    stats_.check_s += commit_.check_s();
    if (outcome.failure || !outcome.values_differ) return outcome.failure;
    return describe_drift(parameter_hashes_, specs, place_, *lanes_.back(), frame(), deadline);
  }

  bool compares_parameters() const {
    return options_.parameter && options_.drift_check_every > 0 &&
           step_ % options_.drift_check_every == 0;
  }

  /// false: some gradient was not finite, and the state stays.
  bool commit() {
    bool overflowed = false;
    for (const Exchange* exchange : step_exchanges_) overflowed |= exchange->overflowed();
    for (Exchange* exchange : step_exchanges_) {
      exchange->finish(/*commit=*/!overflowed);
      stats_.encode_s += exchange->encode_s;
      stats_.decode_s += exchange->decode_s;
      stats_.check_s += exchange->check_s;
      stats_.dense_bytes += dense_bytes(exchange->gradient_bytes());
    }
    if (overflowed) {
      ++stats_.overflow_steps;
    } else {
      ++step_;
    }
    return !overflowed;
  }

  // Buckets are regrouped now and then, and the old ones do not come again.
  void forget_unused_exchanges() {
    const std::uint32_t now = step_exchanges_.front()->context().sequence;
    std::erase_if(exchanges_, [now](const auto& exchange) {
      // As a difference, since the counter begins anew after 2^32.
      return static_cast<std::int32_t>(now - exchange->context().sequence) > kRemembered;
    });
  }

  // While the caller already computes: the next step's buckets wait, nobody else.
  void change_plan_if_due(std::size_t buckets) {
    const StepEnd end{.step = step_,
                      .frame = frame(),
                      .buckets = buckets,
                      .grad_scale = grad_scale_,
                      .communicator = *lanes_.back(),
                      .commit = commit_};
    try {
      const Stopwatch watch(stats_.plan_wait_s);
      if (auto plan = planning_.after_step(end, plan_, stats_)) use(std::move(*plan));
      add_traffic();
    } catch (...) {
      fail(Failure::current(place("planning")));
    }
  }

  Traffic traffic() const {
    Traffic total;
    for (const auto& lane : lanes_) {
      total.bytes_sent += lane->traffic().bytes_sent;
      total.bytes_received += lane->traffic().bytes_received;
      total.messages_sent += lane->traffic().messages_sent;
      total.seconds += lane->traffic().seconds;
    }
    return total;
  }

  void add_traffic() {
    const Traffic total = traffic();
    stats_.bytes_sent += total.bytes_sent - counted_.bytes_sent;
    stats_.bytes_received += total.bytes_received - counted_.bytes_received;
    stats_.messages_sent += total.messages_sent - counted_.messages_sent;
    stats_.wait_s += total.seconds - counted_.seconds;
    counted_ = total;
  }

  std::uint64_t dense_bytes(std::uint64_t bytes) const {
    const auto ranks = static_cast<std::uint64_t>(place_.ranks);
    return 2 * (ranks - 1) * bytes / ranks;
  }

  // In the caller's thread, where a mistake can be told.
  void check_bucket(const Bucket& bucket) {
    for (const Gradient& gradient : bucket.gradients) {
      if (gradient.layer >= specs.size()) {
        throw ConfigError("[aggregator] there is no layer " + std::to_string(gradient.layer));
      }
    }
    for (const Gradient& gradient : bucket.gradients) {
      if (in_open_step_[gradient.layer]) {
        for (const Gradient* marked = bucket.gradients.data(); marked != &gradient; ++marked) {
          in_open_step_[marked->layer] = false;
        }
        throw ConfigError("[aggregator] layer '" + specs[gradient.layer].name +
                          "' is handed over twice in one step");
      }
      in_open_step_[gradient.layer] = true;
    }
    if (bucket.last) std::fill(in_open_step_.begin(), in_open_step_.end(), false);
  }

  AggregatorOptions options_;
  std::vector<LayerRecord> records_;
  Lanes lanes_;
  Place place_;
  WorkerPool pool_;
  Trace trace_;
  Planning planning_;
  CommitRound commit_;
  std::vector<std::uint64_t> parameter_hashes_;

  Plan plan_;
  std::uint64_t plan_hash_ = 0;
  std::uint64_t fingerprint_ = 0;
  std::uint64_t step_ = 0;      // committed ones
  std::uint32_t sequence_ = 0;  // of buckets
  double grad_scale_ = 1.0;
  Stats stats_;
  Traffic counted_;                                   // what of the lanes' traffic is in stats_
  std::vector<std::unique_ptr<Exchange>> exchanges_;  // one per set of layers seen with this plan
  std::vector<Exchange*> step_exchanges_;             // that passed round B in this step

  std::mutex submit_mutex_;
  std::vector<bool> in_open_step_;  // by layer: submitted, and the step has not ended
  Ticket ticket_;                   // being filled by submit()

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // one of the following
  std::uint64_t submitted_buckets_ = 0;
  std::uint64_t finished_buckets_ = 0;
  bool step_is_open_ = false;
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};  // failure_ is set

  Queue<Ticket> tickets_;
  Queue<Exchange*> queue_a_, queue_b_;
  std::vector<std::thread> threads_;
};

Aggregator::Aggregator(std::vector<LayerSpec> layers, AggregatorOptions options,
                       std::vector<std::unique_ptr<Communicator>> lanes)
    : impl_(std::make_unique<Impl>(layers, std::move(options), std::move(lanes))) {}

Aggregator::~Aggregator() = default;

void Aggregator::submit(const Bucket& bucket, std::function<void(std::exception_ptr)> done) {
  impl_->submit(bucket, std::move(done));
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
  impl_->change([&] { impl_->set_grad_scale(scale); });
}

void Aggregator::on_learning_rate_change(double before, double now) {
  impl_->change([&] { impl_->on_learning_rate_change(before, now); });
}

const std::vector<LayerSpec>& Aggregator::layers() const { return impl_->specs; }

MemoryUse Aggregator::memory() const {
  return impl_->when_idle([&] { return impl_->memory(); });
}

Plan Aggregator::plan() const {
  return impl_->when_idle([&] { return impl_->plan(); });
}

bool Aggregator::in_critical_regime() const {
  return impl_->when_idle([&] { return impl_->in_critical_regime(); });
}

Stats Aggregator::stats() const {
  return impl_->when_idle([&] { return impl_->stats(); });
}

AggregatorState Aggregator::state() const {
  return impl_->when_idle([&] { return impl_->state(); });
}

int Aggregator::rank() const { return impl_->rank(); }

int Aggregator::size() const { return impl_->size(); }

void Aggregator::load_state(AggregatorState state) {
  impl_->change([&] { impl_->load_state(std::move(state), ""); });
}

void Aggregator::refuse_state(const std::string& reason) {
  impl_->change([&] { impl_->load_state(std::nullopt, reason); });
}

void Aggregator::abandon(const std::string& reason) {
  impl_->abandon({Failure::Kind::config, reason});
}

void Aggregator::start_trace() { impl_->trace().start(); }

std::vector<TraceEvent> Aggregator::stop_trace() {
  return impl_->when_idle([&] { return impl_->trace().stop(); });
}

}  // namespace lgreco
