#include "src/engine/pipeline.h"

#include <algorithm>
#include <string>
#include <utility>

namespace lgreco {
namespace {

// How long the destructor waits for a step that the peers may still finish with us.
constexpr std::chrono::seconds kGrace(5);

// Marks the bucket's layers in `in_open_step`. Throws ConfigError, marking nothing, for a layer
// that does not exist, or was there before.
void mark(const Bucket& bucket, const std::vector<LayerSpec>& layers,
          std::vector<bool>& in_open_step) {
  for (const Gradient& gradient : bucket.gradients) {
    if (gradient.layer >= layers.size()) {
      throw ConfigError("[aggregator] there is no layer " + std::to_string(gradient.layer));
    }
  }
  for (const Gradient& gradient : bucket.gradients) {
    if (in_open_step[gradient.layer]) {
      for (const Gradient* marked = bucket.gradients.data(); marked != &gradient; ++marked) {
        in_open_step[marked->layer] = false;
      }
      throw ConfigError("[aggregator] layer '" + layers[gradient.layer].name +
                        "' is handed over twice in one step");
    }
    in_open_step[gradient.layer] = true;
  }
  if (bucket.last) std::fill(in_open_step.begin(), in_open_step.end(), false);
}

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
      exchanges_(values, run.specs(), place, trace),
      stateless_exchanges_(stateless_values, run.specs(), place, trace),
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
  if (!under_way_.ends_within(kGrace)) {
    fail({Failure::Kind::peer, "[aggregator] closed before the step of this bucket had ended"});
  }
  end_threads();
  step_.release(under_way_.failure());
}

// Each ends when it has nothing left to do, and closes the next one's queue.
void Pipeline::end_threads() {
  tickets_.close();
  for (std::thread& thread : threads_) thread.join();
}

// -- The caller's thread, where a mistake can be told.

void Pipeline::submit(const Bucket& bucket, Done done) {
  const std::lock_guard lock(submit_mutex_);
  mark(bucket, run_.specs(), in_open_step_);
  ticket_.bucket = bucket;
  ticket_.done = std::move(done);
  ticket_.submitted = Clock::now();
  // Before the push, or a waiting caller could take the pipeline for idle.
  under_way_.bucket_is_submitted(/*ends_step=*/bucket.last);
  tickets_.push(ticket_);
}

void Pipeline::abandon(const Failure& failure) {
  fail(failure);
  Exchange* nothing = nullptr;
  queue_a_.push(nothing);  // wakes lane B, which releases the buckets of the step
}

// -- Failure of the network, or of the agreement: from here on nothing works.

void Pipeline::fail(const Failure& failure) {
  under_way_.fail(failure.exception());
  groups_.abort();  // which makes rounds fail in other threads
  if (options_.give_up) options_.give_up();
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
    } else {
      under_way_.wait_for_visitor();
    }
    begins_step = ticket.bucket.last;
    if (under_way_.has_failed()) {
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
  under_way_.wait_for(buckets);
  // From here on the step before cannot be taken back.
  if (!run_.is_paused() && !under_way_.has_failed()) {
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
    exchange = &exchanges().of(ticket.bucket.gradients);
    exchange->start(ticket.bucket, std::move(ticket.done), context);
    ticket.done = nullptr;
    exchange->take_in();
  } catch (...) {
    fail(Failure::current(step_.place("starting a bucket")));
  }
  return exchange;
}

void Pipeline::reject(Ticket& ticket) {
  if (ticket.done) ticket.done(under_way_.failure());
  ticket.done = nullptr;
  ticket.bucket.fetch = nullptr;
  ticket.bucket.deliver = nullptr;
  under_way_.bucket_has_ended();
}

ExchangeCache& Pipeline::exchanges() {
  if (codecs_ != run_.codecs()) exchanges_.clear();
  codecs_ = run_.codecs();
  return run_.is_paused() ? stateless_exchanges_ : exchanges_;
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
  if (under_way_.has_failed()) {
    step_.release(under_way_.failure());
  } else if (exchange->last()) {
    end_step();
  }
  // Last: once all buckets have ended, the encoder begins the next step, from what this one left.
  if (exchange != nullptr) under_way_.bucket_has_ended();
}

template <typename Round>
void Pipeline::attempt(const Exchange& exchange, const char* name, const Round& round) {
  if (under_way_.has_failed()) return;
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
    step_.release(under_way_.failure());
  }
  if (under_way_.has_failed()) return;
  exchanges_.forget_unused(sequence_);
  stateless_exchanges_.forget_unused(sequence_);
}

}  // namespace lgreco
