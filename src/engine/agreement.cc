#include "src/engine/agreement.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "lgreco/status.h"
#include "src/engine/gather.h"

namespace lgreco {
namespace {

std::string text_of(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.17g", value);
  return buffer;
}

/// What a rank tells in a commit round.
struct Verdict {
  static constexpr std::uint32_t kIfAll = 1, kOverflowed = 2;

  std::uint64_t value;   // compared unless 0
  std::uint32_t failed;  // Failure::Kind, or 0
  std::uint32_t flags;
  Terms::Purpose purpose;
  std::uint64_t step;
  std::uint64_t plan;
  double grad_scale;
  std::uint64_t resets;
  std::uint32_t learning_rate_decayed;
  std::uint32_t paused;

  Verdict() = default;
  Verdict(const CommitRound::Opinion& own, const Terms& terms)
      : value(own.value),
        failed(own.failure ? static_cast<std::uint32_t>(own.failure->kind) : 0),
        flags((own.if_all ? kIfAll : 0) | (own.overflowed ? kOverflowed : 0)),
        purpose(terms.purpose),
        step(terms.step),
        plan(terms.plan),
        grad_scale(terms.grad_scale),
        resets(terms.resets),
        learning_rate_decayed(terms.learning_rate_decayed),
        paused(terms.paused) {}

  bool if_all() const { return (flags & kIfAll) != 0; }
  bool overflowed() const { return (flags & kOverflowed) != 0; }
  Terms terms() const {
    return {purpose, step, plan, grad_scale, resets, learning_rate_decayed != 0, paused != 0};
  }
};
static_assert(sizeof(Verdict) == 64);

std::string text_of(Terms::Purpose purpose) {
  switch (purpose) {
    case Terms::Purpose::end_of_step:
      return "ends a step";
    case Terms::Purpose::plan:
      return "changes the plan";
    case Terms::Purpose::state:
      return "loads a state";
    case Terms::Purpose::layers:
      return "averages tensors";
    case Terms::Purpose::portable_state:
      return "makes a portable state";
  }
  return "does something else";
}

std::string text_of(bool value) { return value ? "yes" : "no"; }

/// What to say when `other`, on `rank`, differs from `first`, on rank 0.
std::string difference(const Terms& first, const Terms& other, int rank) {
  std::string text = "[step " + std::to_string(first.step) + "] the ranks differ in ";
  const auto differ = [&](const char* what, const std::string& a, const std::string& b,
                          const char* todo) {
    return text + what + ": rank 0 has '" + a + "', rank " + std::to_string(rank) + " has '" + b +
           "'; " + todo;
  };
  if (first.purpose != other.purpose) {
    return differ("what they do", text_of(first.purpose), text_of(other.purpose),
                  "make the same calls on every rank");
  }
  if (first.step != other.step) {
    return differ(
        "their step", std::to_string(first.step), std::to_string(other.step),
        "take a step back on every rank or on none; to go on, load a state on every rank");
  }
  if (first.paused != other.paused) {
    return differ("whether compression is paused", text_of(first.paused), text_of(other.paused),
                  "pause it on every rank for the same passes");
  }
  if (first.resets != other.resets) {
    return differ("how often they were reset", std::to_string(first.resets),
                  std::to_string(other.resets), "call reset() on every rank before the same step");
  }
  if (first.learning_rate_decayed != other.learning_rate_decayed) {
    return differ("whether the learning rate decayed", text_of(first.learning_rate_decayed),
                  text_of(other.learning_rate_decayed),
                  "call on_lr_change() on every rank before the same step");
  }
  if (!(first.grad_scale == other.grad_scale)) {
    return differ("the gradient scale", text_of(first.grad_scale), text_of(other.grad_scale),
                  "call set_grad_scale() with the same scale on every rank before the same step");
  }
  return differ("their plan", std::to_string(first.plan), std::to_string(other.plan),
                "load one save's states on every rank");
}

// Of a failure's message, when there is one: it travels in a round of its own.
constexpr std::size_t kMessageBytes = 504;

}  // namespace

CommitRound::CommitRound(const Membership& membership)
    : membership_(membership),
      place_(membership.place),
      messages_(Messages::Kind::gather, Phase::commit, place_, 0,
                std::vector<std::size_t>(static_cast<std::size_t>(place_.ranks), sizeof(Verdict))),
      everybody_(static_cast<std::size_t>(place_.ranks)) {
  std::iota(everybody_.begin(), everybody_.end(), 0);
}

namespace {

Verdict verdict_of(int rank, const Messages& messages) {
  Verdict verdict;
  std::memcpy(&verdict, messages.incoming(rank).data(), sizeof verdict);
  return verdict;
}

}  // namespace

void CommitRound::compare(std::span<const int> ranks, Outcome& outcome) const {
  const bool all =
      std::ranges::all_of(ranks, [&](int rank) { return verdict_of(rank, messages_).if_all(); });
  std::uint64_t first = 0;
  for (const int rank : ranks) {
    const Verdict verdict = verdict_of(rank, messages_);
    if (rank == place_.rank) outcome.all_compared = all;
    if (verdict.value == 0 || (verdict.if_all() && !all)) continue;
    if (first == 0) first = verdict.value;
    outcome.values_differ |= verdict.value != first;
  }
}

CommitRound::Outcome CommitRound::agree(Communicator& communicator, std::uint32_t sequence,
                                        Deadline deadline, const Opinion& own, const Terms& terms) {
  // Step and plan are terms, so that ranks that differ in them can say so.
  const Frame frame{.sequence = sequence};
  const Verdict own_verdict(own, terms);
  std::memcpy(messages_.outgoing(place_.rank).data(), &own_verdict, sizeof own_verdict);
  messages_.exchange(communicator, frame, deadline);
  Outcome outcome;
  int failed_rank = -1;
  for (int rank = 0; rank < place_.ranks; ++rank) {
    const Verdict verdict = verdict_of(rank, messages_), first = verdict_of(0, messages_);
    if (verdict.terms() != first.terms()) {
      // Before any rank's own failure, of which this is the likely reason.
      outcome.failure =
          Failure{Failure::Kind::mismatch, difference(first.terms(), verdict.terms(), rank)};
      return outcome;
    }
    outcome.overflowed |= verdict.overflowed();
    if (failed_rank >= 0 || verdict.failed == 0) continue;
    failed_rank = rank;
    outcome.failure = Failure{static_cast<Failure::Kind>(verdict.failed), ""};
  }
  if (own.whose == Opinion::Whose::everybody) {
    compare(everybody_, outcome);
  } else {
    for (const Peers& peers : membership_.groups) compare(peers.ranks, outcome);
  }
  if (outcome.failure) {
    outcome.failure->message = message_of(failed_rank, own.failure, communicator, frame, deadline);
  }
  return outcome;
}
std::string CommitRound::message_of(int rank, const std::optional<Failure>& failure,
                                    Communicator& communicator, const Frame& frame,
                                    Deadline deadline) const {
  Messages texts(Messages::Kind::gather, Phase::commit, place_, 0,
                 std::vector<std::size_t>(static_cast<std::size_t>(place_.ranks), kMessageBytes));
  if (failure) {
    auto* text = reinterpret_cast<char*>(texts.outgoing(place_.rank).data());
    const std::size_t length = failure->message.copy(text, kMessageBytes - 1);
    // Not to end inside of a UTF-8 character.
    std::size_t end = length;
    if (length < failure->message.size()) {
      while (end > 0 && (static_cast<unsigned char>(failure->message[end]) & 0xC0) == 0x80) --end;
    }
    std::fill(text + end, text + length, '\0');
  }
  texts.exchange(communicator, frame, deadline);
  const auto text = texts.incoming(rank);
  const auto* begin = reinterpret_cast<const char*>(text.data());
  return {begin, std::find(begin, begin + kMessageBytes, '\0')};
}

std::vector<bool> layers_of_any(const std::vector<bool>& own, const Membership& membership,
                                Communicator& communicator, std::uint32_t sequence,
                                Deadline deadline) {
  const Place place = membership.place;
  const std::vector<std::size_t> sizes = membership.message_bytes(0, 1);
  Messages messages(Messages::Kind::gather, Phase::commit, place, 0, sizes);
  const auto given = messages.outgoing(place.rank);
  for (std::size_t layer = 0; layer < own.size(); ++layer) given[layer] = std::byte{own[layer]};
  messages.exchange(communicator, {.sequence = sequence}, deadline);
  std::vector<bool> any(membership.layers.size());
  for (int rank = 0; rank < place.ranks; ++rank) {
    const std::vector<std::size_t>& layers = membership.group(rank).layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (messages.incoming(rank)[i] != std::byte{0}) any[layers[i]] = true;
    }
  }
  std::vector<bool> here;
  for (const std::size_t layer : membership.here()) here.push_back(any[layer]);
  return here;
}

void hash_parameters(const AggregatorOptions& options, std::span<std::uint64_t> hashes) {
  for (std::size_t layer = 0; layer < hashes.size(); ++layer) {
    const std::span<const std::byte> bytes = options.parameter(layer);
    hashes[layer] = XXH3_64bits(bytes.data(), bytes.size());
  }
}

std::uint64_t hash_of(std::span<const std::uint64_t> hashes) {
  return XXH3_64bits(hashes.data(), hashes.size_bytes());
}

namespace {

/// Ranks that compare their parameters of some layers.
struct Compared {
  std::vector<int> ranks;
  std::vector<std::string> layers;
};

std::vector<Compared> compared_in(const std::vector<LayerSpec>& model,
                                  const Membership& membership) {
  std::vector<Compared> all;
  if (!model.empty()) {
    Compared& everybody = all.emplace_back();
    everybody.ranks.resize(static_cast<std::size_t>(membership.place.ranks));
    std::iota(everybody.ranks.begin(), everybody.ranks.end(), 0);
    for (const LayerSpec& layer : model) everybody.layers.push_back(layer.name);
    return all;
  }
  for (const Peers& peers : membership.groups) {
    Compared& compared = all.emplace_back(Compared{.ranks = peers.ranks, .layers = {}});
    for (const std::size_t layer : peers.layers) {
      compared.layers.push_back(membership.layers[layer].spec.name);
    }
  }
  return all;
}

}  // namespace

Failure describe_drift(std::span<const std::uint64_t> hashes, const std::vector<LayerSpec>& model,
                       const Membership& membership, Communicator& communicator, const Frame& frame,
                       Deadline deadline) {
  const Place place = membership.place;
  const std::vector<Compared> all = compared_in(model, membership);
  std::vector<std::size_t> sizes(static_cast<std::size_t>(place.ranks));
  for (const Compared& compared : all) {
    for (const int rank : compared.ranks) {
      sizes[static_cast<std::size_t>(rank)] = compared.layers.size() * sizeof(std::uint64_t);
    }
  }
  Messages messages(Messages::Kind::gather, Phase::commit, place, 0, sizes);
  if (!hashes.empty()) {
    std::memcpy(messages.outgoing(place.rank).data(), hashes.data(), hashes.size_bytes());
  }
  messages.exchange(communicator, frame, deadline);
  for (const Compared& compared : all) {
    for (std::size_t i = 0; i < compared.layers.size(); ++i) {
      const auto hash_on = [&](int rank) {
        std::uint64_t hash;
        std::memcpy(&hash, messages.incoming(rank).data() + i * sizeof hash, sizeof hash);
        return hash;
      };
      int first = -1;  // of the ranks that compare
      for (const int rank : compared.ranks) {
        const std::uint64_t hash = hash_on(rank);
        if (hash != 0 && first < 0) first = rank;
        if (hash == 0 || hash == hash_on(first)) continue;
        return {Failure::Kind::mismatch, "[step " + std::to_string(frame.step) +
                                             "] the parameters of layer '" + compared.layers[i] +
                                             "' on rank " + std::to_string(rank) +
                                             " are not those of rank " + std::to_string(first) +
                                             "; load the same parameters on every rank"};
      }
    }
  }
  return {Failure::Kind::mismatch, "the ranks' parameters differ"};
}

}  // namespace lgreco
