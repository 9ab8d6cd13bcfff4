#include "src/engine/exchange.h"

#include <algorithm>
#include <string>
#include <utility>

#include "lgreco/status.h"
#include "src/base/random.h"
#include "src/base/stopwatch.h"

namespace lgreco {

Exchange::Exchange(const std::vector<Gradient>& gradients, const std::vector<LayerSpec>& specs,
                   Values& values, Place place, Trace& trace)
    : specs_(specs), place_(place), trace_(trace) {
  for (const Gradient& gradient : gradients) {
    const LayerSpec& layer = specs[gradient.layer];
    layers_.push_back(gradient.layer);
    gradient_bytes_ += layer.count() * size_of(layer.dtype);
    layers_hash_ = mix64(layers_hash_ ^ layer.id());
  }
  values_ = values.bucket(layers_);

  const MessageSizes& sizes = values_->sizes();
  const auto make = [&](Messages::Kind kind, Phase phase, const std::vector<std::size_t>& bytes,
                        Messages* after = nullptr) {
    if (bytes.empty()) return std::unique_ptr<Messages>();
    return std::make_unique<Messages>(kind, phase, place, layers_.size(), bytes, after);
  };
  constexpr auto kScatter = Messages::Kind::scatter, kGather = Messages::Kind::gather;
  scatter_a_ = make(kScatter, Phase::scatter_a, sizes.scatter_a);
  gather_a_ = make(kGather, Phase::gather_a, sizes.gather_a);
  scatter_b_ = make(kScatter, Phase::scatter_b, sizes.scatter_b);
  gather_b_ = make(kGather, Phase::gather_b, sizes.gather_b, scatter_a_.get());
  const auto bodies_of = [](const std::unique_ptr<Messages>& messages) {
    return messages ? messages->bodies() : MessageBodies();
  };
  bodies_ = {bodies_of(scatter_a_), bodies_of(gather_a_), bodies_of(scatter_b_),
             bodies_of(gather_b_)};
}

bool Exchange::fits(const std::vector<Gradient>& gradients) const {
  return !busy_ && std::equal(layers_.begin(), layers_.end(), gradients.begin(), gradients.end(),
                              [](std::size_t layer, const Gradient& gradient) {
                                return layer == gradient.layer;
                              });
}

void Exchange::start(Bucket& bucket, Done done, const StepContext& context) {
  context_ = context;
  last_ = bucket.last;
  busy_ = true;
  done_ = std::move(done);
  failure_.reset();
  if (!bucket.problem.empty()) failure_ = Failure{Failure::Kind::config, bucket.problem};
  peer_failed_ = false;
  encode_s = decode_s = check_s = 0;
  if (bucket.fetch) fetch(bucket);
  deliver_ = std::move(bucket.deliver);
  bucket.deliver = nullptr;
  values_->start(bucket.gradients, context);
}

// Not until the step's deadline: a rank that has waited in vain must be able to tell the others.
void Exchange::fetch(Bucket& bucket) {
  const TraceSpan span(trace_, "fetch", "encode", context_.step, context_.bucket);
  constexpr Clock::duration kTimeToTell = std::chrono::seconds(2);
  const Clock::duration left = context_.deadline - Clock::now();
  const Deadline deadline = context_.deadline - std::min(kTimeToTell, left / 5);
  attempt("fetching the gradients", [&] { bucket.fetch(bucket.gradients, deadline); });
  bucket.fetch = nullptr;  // and what it holds
}

void Exchange::deliver() {
  if (!deliver_) return;
  const TraceSpan span(trace_, "deliver", "lane B", context_.step, context_.bucket);
  try {
    deliver_(context_.deadline);
  } catch (...) {
    std::rethrow_exception(Failure::current(place("delivering averages")).exception());
  }
}

void Exchange::complete(const std::exception_ptr& failure) {
  const Done done = std::move(done_);
  done_ = nullptr;
  deliver_ = nullptr;
  busy_ = false;
  if (done) done(failure);
}

// After a failure, here or of a peer, the step is lost and nothing more is computed for it. Its
// collectives go on with whatever the buffers hold, which nobody will look at.
template <typename Work>
void Exchange::attempt(const char* doing, const Work& work) {
  if (failure_ || peer_failed_) return;
  try {
    work();
  } catch (...) {
    failure_ = Failure::current(place(doing));
  }
}

std::string Exchange::place(const char* doing) const {
  return "[rank " + std::to_string(context_.rank) + ", step " + std::to_string(context_.step) +
         ", bucket " + std::to_string(context_.bucket) + ", " + doing + "] ";
}

// A lost step is made again under the same number and plan, so these do not tell its messages from
// late or repeated ones of the first attempt: the sequence number of the bucket does. A damaged
// message is a failure of this rank like any other, while PeerError leaves the exchange.
void Exchange::run(Messages& messages, const char* name, const char* track,
                   Communicator& communicator) {
  const TraceSpan span(trace_, name, track, context_.step, context_.bucket);
  const Frame frame{.failed = failure_ || peer_failed_,
                    .sequence = context_.sequence,
                    .step = context_.step,
                    .plan = context_.plan ^ layers_hash_};
  try {
    messages.exchange(communicator, frame, context_.deadline);
  } catch (const ProtocolError&) {
    attempt("receiving", [] { throw; });
    return;
  }
  check_s += messages.check_s();
  peer_failed_ |= messages.any_failed();
}

// Flags are written after every stage, also after one that failed: peers check their range before
// they learn why the step is lost.
void Exchange::write_flags(Messages& messages) const {
  const std::span<const Presence> presence = values_->presence();
  for (int peer = 0; peer < place_.ranks; ++peer) {
    if ((peer == place_.rank) == messages.is_scatter()) continue;
    const std::span<std::byte> flags = messages.outgoing_flags(peer);
    for (std::size_t i = 0; i < presence.size(); ++i) {
      flags[i] = static_cast<std::byte>(presence[i]);
    }
  }
}

// Between a collective and the stage that uses what it brought: every stage may find another layer
// non-finite, and what its sender encoded of it is unspecified, so nobody may add it up.
void Exchange::read_flags(const Messages& messages) {
  const std::span<Presence> presence = values_->presence();
  for (int peer = 0; peer < place_.ranks; ++peer) {
    if (peer == place_.rank) continue;
    const std::span<const std::byte> flags = messages.incoming_flags(peer);
    for (std::size_t i = 0; i < presence.size(); ++i) {
      const auto flag = std::to_integer<std::uint8_t>(flags[i]);
      if (flag > static_cast<std::uint8_t>(Presence::non_finite)) {
        throw ProtocolError("layer '" + specs_[layers_[i]].name + "': the flag of rank " +
                            std::to_string(peer) + " is " + std::to_string(flag));
      }
      presence[i] = std::max(presence[i], static_cast<Presence>(flag));
    }
  }
}

void Exchange::take_in() {
  const Stopwatch watch(encode_s);
  const TraceSpan span(trace_, "encode", "encode", context_.step, context_.bucket);
  attempt("taking in the gradients", [&] { values_->encode(0, bodies_); });
  write_flags(scatter_a_ ? *scatter_a_ : *gather_a_);
}

// Both collectives are announced first, so that the peers' gather need not ask either. That of
// gather B must wait for round B: it arrives where scatter A is sent from.
void Exchange::round_a(Communicator& communicator) {
  if (layers_.empty()) return;
  if (scatter_a_) scatter_a_->expect(communicator);
  if (gather_a_) gather_a_->expect(communicator);
  if (scatter_a_) {
    run(*scatter_a_, "scatter A", "lane A", communicator);
    attempt("round A", [&] { read_flags(*scatter_a_); });
    if (!gather_a_) return;  // lane A goes on to the next bucket, while lane B gathers
    attempt("round A", [&] {
      const Stopwatch watch(encode_s);
      values_->reduce(0, bodies_);
    });
    write_flags(*gather_a_);
  }
  run(*gather_a_, "gather A", "lane A", communicator);
}

void Exchange::expect_round_b(Communicator& communicator) const {
  if (layers_.empty()) return;
  if (scatter_b_) scatter_b_->expect(communicator);
  if (gather_b_) gather_b_->expect(communicator);
}

// Three stages, the first only when some layer has two rounds: the second round is encoded from the
// means of the first; whatever was not reduced in round A is; the averages are checked. After that
// all ranks know the same of every layer without another message: the last gather brought flags,
// and what the check looks at are its bytes, which are the same everywhere.
void Exchange::round_b(Communicator& communicator) {
  if (layers_.empty()) return;
  if (has_two_rounds()) {
    attempt("round B", [&] {
      const Stopwatch watch(encode_s);
      const TraceSpan span(trace_, "between", "lane B", context_.step, context_.bucket);
      read_flags(*gather_a_);
      values_->encode(1, bodies_);
    });
    write_flags(scatter_b_ ? *scatter_b_ : *gather_b_);
  }
  if (scatter_b_) run(*scatter_b_, "scatter B", "lane B", communicator);
  if (scatter_a_) {
    attempt("round B", [&] {
      const Stopwatch watch(encode_s);
      const TraceSpan span(trace_, "reduce", "lane B", context_.step, context_.bucket);
      if (scatter_b_) read_flags(*scatter_b_);
      values_->reduce(has_two_rounds() ? 1 : 0, bodies_);
    });
    write_flags(*gather_b_);
  }
  if (gather_b_) run(*gather_b_, "gather B", "lane B", communicator);
  attempt("round B", [&] {
    const Stopwatch watch(decode_s);
    read_flags(last_messages());
    values_->check(bodies_);
  });
}

bool Exchange::overflowed() const {
  const std::span<const Presence> presence = values_->presence();
  return std::find(presence.begin(), presence.end(), Presence::non_finite) != presence.end();
}

void Exchange::lose() {
  for (Presence& presence : values_->presence()) {
    if (presence == Presence::present) presence = Presence::non_finite;
  }
}

void Exchange::finish(bool commit) {
  const Stopwatch watch(decode_s);
  const TraceSpan span(trace_, "decode", "lane B", context_.step, context_.bucket);
  values_->finish(bodies_, commit);
}

}  // namespace lgreco
