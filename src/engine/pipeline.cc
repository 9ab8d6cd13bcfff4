#include "src/engine/pipeline.h"

#include <algorithm>
#include <string>
#include <utility>

namespace lgreco {
namespace {

// How long the destructor waits for a step that the peers may still finish with us.
constexpr std::chrono::seconds kGrace(5);

// Buffers of a set of layers that was not seen for so many buckets are given back.
constexpr std::int32_t kRemembered = 4096;

}  // namespace

Pipeline::Pipeline(RunState& run, Step& step, const CountedGroups& groups,
                   const AggregatorOptions& options, Place place, Values& values,
                   Values& stateless_values, Trace& trace)
    : run_(run),
      step_(step),
      groups_(groups),
      lanes_(groups.lanes()),
      options_(options),
      place_(place),
      trace_(trace),
      exchanges_{values},
      stateless_exchanges_{stateless_values},
      in_open_step_(run.layers().size()) {
  try {
    threads_.emplace_back([this] { run_encoder(); });
    threads_.emplace_back([this] { run_lane_a(); });
    if (lanes_.size() == 2) threads_.emplace_back([this] { run_lane_b(); });
  } catch (...) {  // the machine gives no more
    end_threads();
    throw;
  }
}

Pipeline::~Pipeline() {
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
  step_.release(failure_);
}

// Each ends when it has nothing left to do, and closes the next one's queue.
void Pipeline::end_threads() {
  tickets_.close();
  for (std::thread& thread : threads_) thread.join();
}

// -- Visits.

Pipeline::Visit::Visit(Pipeline& pipeline) : pipeline_(pipeline) {
  std::unique_lock lock(pipeline_.mutex_);
  pipeline_.changed_.wait(lock, [this] { return pipeline_.is_idle() && !pipeline_.is_visited_; });
  pipeline_.is_visited_ = true;
}

Pipeline::Visit::~Visit() {
  {
    const std::lock_guard lock(pipeline_.mutex_);
    pipeline_.is_visited_ = false;
  }
  pipeline_.changed_.notify_all();
}

void Pipeline::require_between_steps() const {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (step_is_open_) {
    throw ConfigError("[aggregator] the state cannot change in the middle of a step");
  }
}

// -- The caller's thread, where a mistake can be told.

void Pipeline::submit(const Bucket& bucket, Done done) {
  const std::lock_guard lock(submit_mutex_);
  check(bucket);
  ticket_.bucket = bucket;
  ticket_.done = std::move(done);
  ticket_.submitted = Clock::now();
  {
    // Before the push, or a waiting caller could take the pipeline for idle.
    const std::lock_guard state_lock(mutex_);
    step_is_open_ = !bucket.last;
    ++submitted_buckets_;
  }
  tickets_.push(ticket_);
}

void Pipeline::check(const Bucket& bucket) {
  const std::vector<LayerRecord>& layers = run_.layers();
  for (const Gradient& gradient : bucket.gradients) {
    if (gradient.layer >= layers.size()) {
      throw ConfigError("[aggregator] there is no layer " + std::to_string(gradient.layer));
    }
  }
  for (const Gradient& gradient : bucket.gradients) {
    if (in_open_step_[gradient.layer]) {
      for (const Gradient* marked = bucket.gradients.data(); marked != &gradient; ++marked) {
        in_open_step_[marked->layer] = false;
      }
      throw ConfigError("[aggregator] layer '" + layers[gradient.layer].spec.name +
                        "' is handed over twice in one step");
    }
    in_open_step_[gradient.layer] = true;
  }
  if (bucket.last) std::fill(in_open_step_.begin(), in_open_step_.end(), false);
}

void Pipeline::abandon(const Failure& failure) {
  fail(failure);
  Exchange* nothing = nullptr;
  queue_a_.push(nothing);  // wakes lane B, which releases the buckets of the step
}

// -- Failure of the network, or of the agreement: from here on nothing works.

void Pipeline::fail(const Failure& failure) {
  {
    const std::lock_guard lock(mutex_);
    // The first one is the cause: aborting the lanes below makes rounds fail in other threads.
    if (!failure_) failure_ = failure.exception();
    failed_ = true;
  }
  changed_.notify_all();
  groups_.abort();
}

std::exception_ptr Pipeline::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Pipeline::bucket_has_ended() {
  {
    const std::lock_guard lock(mutex_);
    ++finished_buckets_;
  }
  changed_.notify_all();
}

// -- The encoder's thread.

void Pipeline::run_encoder() {
  Ticket ticket;
  std::uint64_t buckets = 0;  // before this one
  bool begins_step = true;
  Clock::time_point first_submitted;
  StepContext context;
  for (; tickets_.pop(ticket); ++buckets) {
    if (begins_step) {
      begin_step(buckets, context);
      first_submitted = ticket.submitted;
    }
    begins_step = ticket.bucket.last;
    if (failed_) {
      reject(ticket);
      continue;
    }
    if (ticket.bucket.last && trace_.is_on()) {
      trace_.add({"backward", "backward", context.step, 0, first_submitted, ticket.submitted});
    }
    context.sequence = ++sequence_;
    Exchange* exchange = encode(ticket, context);
    if (exchange == nullptr) reject(ticket);
    queue_a_.push(exchange);  // without one, lane B releases the earlier buckets of the step
    ++context.bucket;
  }
  queue_a_.close();
}

// After the `buckets` of all steps before.
void Pipeline::begin_step(std::uint64_t buckets, StepContext& context) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_buckets_ == buckets && !is_visited_; });
  }
  // From here on the step before cannot be taken back.
  if (!run_.is_paused() && !failed_) {
    try {
      step_.settle();
    } catch (...) {
      fail(Failure::current(""));
    }
  }
  context = run_.context();
  context.deadline = Clock::now() + options_.timeout;
}

Exchange* Pipeline::encode(Ticket& ticket, const StepContext& context) {
  Exchange* exchange = nullptr;
  try {
    exchange = &exchange_for(ticket.bucket.gradients);
    exchange->start(ticket.bucket, std::move(ticket.done), context);
    ticket.done = nullptr;
    exchange->take_in();
  } catch (...) {
    fail(Failure::current(step_.place("starting a bucket")));
  }
  return exchange;
}

void Pipeline::reject(Ticket& ticket) {
  if (ticket.done) ticket.done(failure());
  ticket.done = nullptr;
  bucket_has_ended();
}

Exchange& Pipeline::exchange_for(const std::vector<Gradient>& gradients) {
  if (codecs_ != run_.codecs()) exchanges_.all.clear();
  codecs_ = run_.codecs();
  Exchanges& exchanges = run_.is_paused() ? stateless_exchanges_ : exchanges_;
  for (const auto& exchange : exchanges.all) {
    if (exchange->fits(gradients)) return *exchange;
  }
  exchanges.all.push_back(
      std::make_unique<Exchange>(gradients, run_.specs(), exchanges.values, place_, trace_));
  return *exchanges.all.back();
}

// Buckets are regrouped now and then, and the old ones do not come again.
void Pipeline::forget_unused_exchanges(std::uint32_t now) {
  for (Exchanges* exchanges : {&exchanges_, &stateless_exchanges_}) {
    std::erase_if(exchanges->all, [now](const auto& exchange) {
      // As a difference, since the counter begins anew after 2^32.
      return static_cast<std::int32_t>(now - exchange->context().sequence) > kRemembered;
    });
  }
}

// -- The lanes' threads.

void Pipeline::run_lane_a() {
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

void Pipeline::run_lane_b() {
  Exchange* exchange = nullptr;
  while (queue_b_.pop(exchange)) run_round_b(exchange);
}

void Pipeline::run_round_a(Exchange& exchange) {
  attempt(exchange, "round A", [&] { exchange.round_a(*lanes_[0]); });
}

void Pipeline::run_round_b(Exchange* exchange) {
  if (exchange != nullptr) {
    attempt(*exchange, "round B", [&] {
      Communicator& lane = *lanes_.back();
      exchange->expect_round_b(lane);
      // Here, since what is expected of one communicator comes in this order.
      if (exchange->last()) step_.expect();
      exchange->round_b(lane);
    });
    step_.add(*exchange);
  }
  if (failed_) {
    step_.release(failure());
  } else if (exchange->last()) {
    end_step();
  }
  // Last: once all buckets have ended, the encoder begins the next step, from what this one left.
  if (exchange != nullptr) bucket_has_ended();
}

template <typename Round>
void Pipeline::attempt(const Exchange& exchange, const char* name, const Round& round) {
  if (failed_) return;
  try {
    round();
  } catch (...) {
    const StepContext& at = exchange.context();
    fail(Failure::current("[rank " + std::to_string(at.rank) + ", step " + std::to_string(at.step) +
                          ", bucket " + std::to_string(at.bucket) + ", " + name + "] "));
  }
}

void Pipeline::end_step() {
  try {
    step_.end();
  } catch (...) {
    fail(Failure::current(""));
    step_.release(failure());
  }
  if (!failed_) forget_unused_exchanges(sequence_);
}

}  // namespace lgreco
