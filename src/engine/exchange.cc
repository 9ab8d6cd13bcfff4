#include "src/engine/exchange.h"

#include <algorithm>
#include <limits>
#include <string>

#include "src/base/random.h"
#include "src/base/stopwatch.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

void read_16_bit(const void* data, DType dtype, std::span<float> values) {
  const auto* halves = static_cast<const std::uint16_t*>(data);
  if (dtype == DType::bf16) {
    kernels::from_bf16(halves, values.size(), values.data());
  } else {
    kernels::from_f16(halves, values.size(), values.data());
  }
}

void write_16_bit(std::span<const float> values, DType dtype, void* data) {
  auto* halves = static_cast<std::uint16_t*>(data);
  if (dtype == DType::bf16) {
    kernels::to_bf16(values.data(), values.size(), halves);
  } else {
    kernels::to_f16(values.data(), values.size(), halves);
  }
}

float largest_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return std::numeric_limits<float>::max();
    case DType::bf16:
      return 0x1.FEp127f;
    case DType::f16:
      return 65504.0f;
  }
  return 0;
}

bool all_finite(std::span<const float> values) {
  return kernels::all_finite(values.data(), values.size());
}

// What an average lacks of a value fits into a float when neither is larger.
constexpr float kLargestToKeep = std::numeric_limits<float>::max() / 2;

// Large values make a large Q, unless they cancel out: only then it is worth looking at all of
// them.
bool loss_will_fit(std::span<const float> values, std::span<const float> q) {
  constexpr float kSuspicious = 0x1p100f;
  return kernels::max_magnitude(q.data(), q.size()) < kSuspicious ||
         kernels::max_magnitude(values.data(), values.size()) <= kLargestToKeep;
}

void raise(Presence& presence, Presence other) { presence = std::max(presence, other); }

std::vector<std::size_t> message_bytes(const ShardedSum& sum, int ranks) {
  std::vector<std::size_t> bytes;
  for (int owner = 0; owner < ranks; ++owner) bytes.push_back(sum.message_bytes(owner));
  return bytes;
}

std::vector<std::size_t> sum_of(const std::vector<std::size_t>& a,
                                const std::vector<std::size_t>& b) {
  std::vector<std::size_t> sums = a;
  for (std::size_t i = 0; i < a.size(); ++i) sums[i] += b[i];
  return sums;
}

void add_to_interval(LayerRecord& record, std::span<const float> average) {
  float* sum = record.interval_sum.data();
  kernels::add(sum, average.data(), average.size(), sum);
}

}  // namespace

Exchange::Exchange(const std::vector<Gradient>& gradients, std::vector<LayerRecord>& layers,
                   const Settings& settings, WorkerPool& pool, Trace& trace)
    : settings_(settings), pool_(pool), trace_(trace) {
  std::size_t wide = 0, factors = 0;
  for (const Gradient& gradient : gradients) {
    LayerRecord& record = layers[gradient.layer];
    parts_.push_back({.record = &record, .gradient = gradient});
    layers_hash_ = mix64(layers_hash_ ^ record.id);
    if (!is_fp32(parts_.back())) wide += 2 * record.shape.count();
    if (record.linear == nullptr) continue;
    for (int round : {0, 1}) factors += record.linear->round_floats(record.shape, round);
  }
  wide_.resize(wide);
  factors_.resize(factors);
  std::span<float> wide_left(wide_), factors_left(factors_);
  const auto take = [](std::span<float>& left, std::size_t count) {
    const std::span<float> taken = left.first(count);
    left = left.subspan(count);
    return taken;
  };
  for (Part& part : parts_) {
    const LayerRecord& record = *part.record;
    if (!is_fp32(part)) {
      part.values = take(wide_left, record.shape.count());
      part.result = take(wide_left, record.shape.count());
    } else {
      part.values = {static_cast<float*>(part.gradient.data), record.shape.count()};
    }
    if (record.linear == nullptr) {
      part.index = coded_.size();
      coded_.push_back({.values = part.values,
                        .codec = record.coded.get(),
                        .owners = record.owners[0],
                        .layer = record.id,
                        .name = record.spec.name});
      continue;
    }
    part.index = linear_parts_.size();
    linear_parts_.push_back(&part);
    for (int round : {0, 1}) {
      auto& factor = part.factors[static_cast<std::size_t>(round)];
      factor = take(factors_left, record.linear->round_floats(record.shape, round));
      pq_[static_cast<std::size_t>(round)].push_back(
          {.values = factor,
           .codec = record.factor_codec.get(),
           .owners = record.owners[static_cast<std::size_t>(round)],
           .layer = record.id,
           .name = record.spec.name});
    }
  }

  const Place place = settings.place;
  coded_sum_ = std::make_unique<ShardedSum>(coded_, place);
  for (std::size_t round : {0u, 1u}) {
    pq_sums_[round] = std::make_unique<ShardedSum>(pq_[round], place);
  }
  coded_first_.assign(static_cast<std::size_t>(place.ranks), 0);
  alone_first_ = coded_first_;
  const auto coded = message_bytes(*coded_sum_, place.ranks);
  factor_first_ = coded;
  const auto p = message_bytes(*pq_sums_[0], place.ranks);
  const auto q = message_bytes(*pq_sums_[1], place.ranks);
  const auto messages = [&](Messages::Kind kind, Phase phase, std::vector<std::size_t> bytes,
                            Messages* after = nullptr) {
    return std::make_unique<Messages>(kind, phase, place, parts_.size(), std::move(bytes), after);
  };
  scatter_a_ = messages(Messages::Kind::scatter, Phase::scatter_a, sum_of(coded, p));
  gather_b_ = messages(Messages::Kind::gather, Phase::gather_b, sum_of(coded, q), scatter_a_.get());
  if (linear_parts_.empty()) return;
  gather_a_ = messages(Messages::Kind::gather, Phase::gather_a, p);
  scatter_b_ = messages(Messages::Kind::scatter, Phase::scatter_b, q);
}

bool Exchange::fits(const std::vector<Gradient>& gradients) const {
  return !busy_ && std::equal(parts_.begin(), parts_.end(), gradients.begin(), gradients.end(),
                              [](const Part& part, const Gradient& gradient) {
                                return part.gradient.layer == gradient.layer;
                              });
}

std::size_t Exchange::gradient_bytes() const {
  std::size_t bytes = 0;
  for (const Part& part : parts_) {
    bytes += part.record->shape.count() * size_of(part.record->spec.dtype);
  }
  return bytes;
}

void Exchange::start(const std::vector<Gradient>& gradients, bool last, Done done,
                     const StepContext& context) {
  context_ = context;
  last_ = last;
  busy_ = true;
  has_gradient_ = false;
  done_ = std::move(done);
  failure_.reset();
  peer_failed_ = false;
  encode_s = decode_s = check_s = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    part.gradient = gradients[i];
    part.presence = gradients[i].present ? Presence::present : Presence::absent;
    if (is_fp32(part)) {
      part.values = {static_cast<float*>(part.gradient.data), part.record->shape.count()};
    }
    if (part.record->linear == nullptr) coded_[part.index].values = part.values;
  }
}

void Exchange::complete(const std::exception_ptr& failure) {
  const Done done = std::move(done_);
  done_ = nullptr;
  busy_ = false;
  if (done) done(failure);
}

template <typename Work>
void Exchange::attempt(const char* doing, const Work& work) {
  if (failure_ || peer_failed_) return;
  try {
    work();
  } catch (...) {
    failure_ = Failure::current("[rank " + std::to_string(settings_.place.rank) + ", step " +
                                std::to_string(context_.step) + ", bucket " +
                                std::to_string(context_.bucket) + ", " + doing + "] ");
  }
}

void Exchange::run(Messages& messages, Communicator& communicator) {
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

void Exchange::take_in() {
  const Stopwatch watch(encode_s);
  const TraceSpan span(trace_, "encode", "encode", context_.step, context_.bucket);
  attempt("taking in the gradients", [&] {
    pool_.for_each(parts_.size(), [&](std::size_t i) { load(parts_[i]); });
    update_addends();
    const RandomKey key{settings_.seed, context_.step, 0};
    coded_sum_->encode(coded_, key, *scatter_a_, coded_first_, pool_);
    pq_sums_[0]->encode(pq_[0], key, *scatter_a_, factor_first_, pool_);
    take_over_overflows();
  });
  write_flags(*scatter_a_, /*to_all_peers=*/true);
}

// Takes all the memory that committing the step will need: from there on nothing may fail.
void Exchange::load(Part& part) {
  LayerRecord& record = *part.record;
  if (!part.gradient.present) {
    std::fill(part.values.begin(), part.values.end(), 0.0f);
  } else if (!is_fp32(part)) {
    read_16_bit(part.gradient.data, record.spec.dtype, part.values);
  }
  if (context_.compare_parameters &&
      kernels::max_magnitude(part.values.data(), part.values.size()) != 0) {
    has_gradient_ = true;
  }
  const bool sum_is_needed = record.linear == nullptr && collects_window(record);
  std::span<const float> residual;  // left to be added while encoding
  if (settings_.error_feedback) {
    residual = record.residual.floats();
    if (sum_is_needed || residual.empty()) {
      record.residual.add_to(part.values);
      residual = {};
    }
    if (record.level.method != Method::dense) record.residual.reserve(part.values.size());
  }
  bool finite;
  if (record.linear == nullptr) {
    coded_[part.index].residual = residual;
    finite = !sum_is_needed || all_finite(part.values);
  } else {
    finite = record.linear->encode_first_round(part.values, residual, record.shape,
                                               record.linear_state, part.factors[0]);
    if (!finite) std::fill(part.factors[0].begin(), part.factors[0].end(), 0.0f);
  }
  if (!finite) {
    part.presence = Presence::non_finite;
    std::fill(part.values.begin(), part.values.end(), 0.0f);
  }
  if (collects_window(record)) {
    record.window.resize(part.values.size());
    record.pending_window.resize(part.values.size());
    kernels::add(record.window.data(), part.values.data(), part.values.size(),
                 record.pending_window.data());
  }
  if (context_.sum_averages) record.interval_sum.resize(part.values.size());
}

// A factor that overflows makes its layer non-finite, and so do values from which the loss may.
void Exchange::encode_second_round() {
  pool_.for_each(linear_parts_.size(), [&](std::size_t i) {
    Part& part = *linear_parts_[i];
    const LayerRecord& record = *part.record;
    const std::span<float> factor = part.factors[1];
    if (part.presence != Presence::non_finite) {
      record.linear->encode_round(1, part.values, record.shape, record.linear_state,
                                  std::span(part.factors).first(1), factor);
      if (all_finite(factor) && loss_will_fit(part.values, factor)) return;
    }
    part.presence = Presence::non_finite;
    std::fill(factor.begin(), factor.end(), 0.0f);
  });
}

void Exchange::update_addends() {
  for (const Part& part : parts_) {
    const bool takes_part = part.presence != Presence::non_finite;
    if (part.record->linear == nullptr) {
      coded_[part.index].takes_part = takes_part;
      coded_[part.index].overflowed = false;
      continue;
    }
    for (auto& addends : pq_) {
      addends[part.index].takes_part = takes_part;
      addends[part.index].overflowed = false;
    }
  }
}

void Exchange::take_over_overflows() {
  for (Part& part : parts_) {
    const bool overflowed = part.record->linear == nullptr
                                ? coded_[part.index].overflowed
                                : pq_[0][part.index].overflowed || pq_[1][part.index].overflowed;
    if (overflowed) part.presence = Presence::non_finite;
  }
}

void Exchange::write_flags(Messages& messages, bool to_all_peers) const {
  for (int peer = 0; peer < settings_.place.ranks; ++peer) {
    if ((peer == settings_.place.rank) == to_all_peers) continue;
    const std::span<std::byte> flags = messages.outgoing_flags(peer);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      flags[i] = static_cast<std::byte>(parts_[i].presence);
    }
  }
}

void Exchange::read_flags(const Messages& messages) {
  for (int peer = 0; peer < settings_.place.ranks; ++peer) {
    if (peer == settings_.place.rank) continue;
    const std::span<const std::byte> flags = messages.incoming_flags(peer);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto flag = std::to_integer<std::uint8_t>(flags[i]);
      if (flag > static_cast<std::uint8_t>(Presence::non_finite)) {
        throw ProtocolError("layer '" + parts_[i].record->spec.name + "': the flag of rank " +
                            std::to_string(peer) + " is " + std::to_string(flag));
      }
      raise(parts_[i].presence, static_cast<Presence>(flag));
    }
  }
}

void Exchange::round_a(Communicator& communicator) {
  scatter_a_->expect(communicator);
  if (gather_a_) gather_a_->expect(communicator);
  {
    const TraceSpan span(trace_, "scatter A", "lane A", context_.step, context_.bucket);
    run(*scatter_a_, communicator);
  }
  attempt("round A", [&] { read_flags(*scatter_a_); });
  if (linear_parts_.empty()) return;
  attempt("round A", [&] {
    const Stopwatch watch(encode_s);
    update_addends();
    const auto own = static_cast<std::size_t>(settings_.place.rank);
    pq_sums_[0]->reduce(pq_[0], {settings_.seed, context_.step, 0}, *scatter_a_, factor_first_[own],
                        *gather_a_, 0, pool_);
    take_over_overflows();
  });
  write_flags(*gather_a_, /*to_all_peers=*/false);
  const TraceSpan span(trace_, "gather A", "lane A", context_.step, context_.bucket);
  run(*gather_a_, communicator);
}

void Exchange::expect_round_b(Communicator& communicator) const {
  if (scatter_b_) scatter_b_->expect(communicator);
  gather_b_->expect(communicator);
}

void Exchange::round_b(Communicator& communicator) {
  const RandomKey key{settings_.seed, context_.step, 0};
  const auto own = static_cast<std::size_t>(settings_.place.rank);
  if (!linear_parts_.empty()) {
    attempt("round B", [&] {
      const Stopwatch watch(encode_s);
      const TraceSpan span(trace_, "between", "lane B", context_.step, context_.bucket);
      read_flags(*gather_a_);
      update_addends();
      pq_sums_[0]->decode(pq_[0], *gather_a_, alone_first_, pool_);
      encode_second_round();
      update_addends();
      pq_sums_[1]->encode(pq_[1], key, *scatter_b_, alone_first_, pool_);
      take_over_overflows();
    });
    write_flags(*scatter_b_, /*to_all_peers=*/true);
    const TraceSpan span(trace_, "scatter B", "lane B", context_.step, context_.bucket);
    run(*scatter_b_, communicator);
  }
  attempt("round B", [&] {
    const Stopwatch watch(encode_s);
    const TraceSpan span(trace_, "reduce", "lane B", context_.step, context_.bucket);
    if (!linear_parts_.empty()) read_flags(*scatter_b_);
    update_addends();
    coded_sum_->reduce(coded_, key, *scatter_a_, coded_first_[own], *gather_b_, coded_first_[own],
                       pool_);
    if (!linear_parts_.empty()) {
      pq_sums_[1]->reduce(pq_[1], key, *scatter_b_, 0, *gather_b_, factor_first_[own], pool_);
    }
    take_over_overflows();
  });
  write_flags(*gather_b_, /*to_all_peers=*/false);
  {
    const TraceSpan span(trace_, "gather B", "lane B", context_.step, context_.bucket);
    run(*gather_b_, communicator);
  }
  attempt("round B", [&] {
    const Stopwatch watch(decode_s);
    read_flags(*gather_b_);
    update_addends();
    if (!linear_parts_.empty()) {
      pq_sums_[1]->decode(pq_[1], *gather_b_, factor_first_, pool_);
      check_factors();
    }
    read_16_bit_results();
  });
}

// P is orthonormal, so that no entry of P Q^T exceeds this bound.
void Exchange::check_factors() {
  for (Part* part : linear_parts_) {
    const std::span<const float> q = part->factors[1];
    const double rank = part->record->level.parameter;
    const double bound = rank * kernels::max_magnitude(q.data(), q.size());
    if (bound > kLargestToKeep) part->presence = Presence::non_finite;
  }
}

// Before the step is committed, since an average may be too large for 16 bits: an overflow.
void Exchange::read_16_bit_results() {
  pool_.for_each(parts_.size(), [&](std::size_t i) {
    Part& part = parts_[i];
    if (is_fp32(part) || part.presence != Presence::present) return;
    decode_part(part, part.result);
    const float largest = kernels::max_magnitude(part.result.data(), part.result.size());
    if (largest > largest_of(part.record->spec.dtype)) part.presence = Presence::non_finite;
  });
}

bool Exchange::overflowed() const {
  return std::any_of(parts_.begin(), parts_.end(),
                     [](const Part& part) { return part.presence == Presence::non_finite; });
}

void Exchange::finish(bool commit) {
  const Stopwatch watch(decode_s);
  const TraceSpan span(trace_, "decode", "lane B", context_.step, context_.bucket);
  pool_.for_each(parts_.size(), [&](std::size_t i) { finish_part(parts_[i], commit); });
}

void Exchange::finish_part(Part& part, bool commit) const {
  const LayerRecord& record = *part.record;
  if (part.presence == Presence::present) {
    if (!is_fp32(part)) write_16_bit(part.result, record.spec.dtype, part.gradient.data);
    if (commit) {
      commit_part(part);
    } else if (is_fp32(part)) {
      decode_part(part, part.values);
    }
    return;
  }
  const bool absent = part.presence == Presence::absent;
  std::fill(part.values.begin(), part.values.end(),
            absent ? 0.0f : std::numeric_limits<float>::quiet_NaN());
  if (!is_fp32(part)) write_16_bit(part.values, record.spec.dtype, part.gradient.data);
}

void Exchange::decode_part(const Part& part, std::span<float> result) const {
  const LayerRecord& record = *part.record;
  if (record.linear == nullptr) {
    coded_sum_->decode_into(part.index, coded_[part.index], *gather_b_, coded_first_, result);
  } else {
    record.linear->decode(record.shape, part.factors, result);
  }
}

void Exchange::commit_part(Part& part) const {
  LayerRecord& record = *part.record;
  if (collects_window(record)) {
    record.window.swap(record.pending_window);
    ++record.window_steps;
  }
  if (context_.sum_averages && !is_fp32(part)) add_to_interval(record, part.result);
  if (!is_fp32(part)) {
    keep_16_bit_residual(part);
  } else if (record.level.method == Method::dense) {
    record.residual.clear();  // everything was sent
    decode_part(part, part.values);
  } else if (settings_.error_feedback) {
    keep_residual(part);
  } else {
    decode_part(part, part.values);
  }
  if (context_.sum_averages && is_fp32(part)) add_to_interval(record, part.values);
  if (record.linear != nullptr) {
    record.linear->commit(record.shape, key(part), part.factors, record.linear_state);
  }
}

// Leaves the average in `values`.
void Exchange::keep_residual(Part& part) const {
  LayerRecord& record = *part.record;
  if (record.linear != nullptr) {
    const std::span<float> in_place = record.residual.overwrite(part.values.size());
    const std::span<float> loss = in_place.empty() ? part.values : in_place;
    record.linear->decode_keep_loss(record.shape, part.factors, part.values, loss);
    if (!in_place.empty()) return;
  }
  record.residual.keep(part.values, key(part));
  decode_part(part, part.values);
}

// A 16-bit gradient cannot hold the average exactly: what its rounding loses is kept as well.
void Exchange::keep_16_bit_residual(Part& part) const {
  if (!settings_.error_feedback) return;
  const DType dtype = part.record->spec.dtype;
  float* values = part.values.data();
  // What was not sent and the average together; then less what was really written.
  if (part.record->linear == nullptr) {
    kernels::add(values, part.result.data(), part.values.size(), values);
  }
  read_16_bit(part.gradient.data, dtype, part.result);
  kernels::subtract(values, part.result.data(), part.values.size(), values);
  part.record->residual.keep(part.values, key(part));
}

}  // namespace lgreco
