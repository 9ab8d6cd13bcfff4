#include "src/engine/state_rounds.h"

#include <bit>
#include <sstream>
#include <utility>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "src/base/random.h"
#include "src/engine/gather.h"
#include "src/engine/portable_state.h"

namespace lgreco {
namespace {

// 0 is not compared.
std::uint64_t identity_of(const AggregatorState& state, std::uint64_t plan) {
  std::uint64_t identity = mix64(mix64(state.step) ^ plan);
  identity = mix64(identity ^ std::bit_cast<std::uint64_t>(state.grad_scale));
  for (const bool flag : {state.learning_rate_decayed, state.decay_is_agreed, state.unsettled}) {
    identity = mix64(identity ^ std::uint64_t{flag});
  }
  return identity | 1;
}

}  // namespace

StateRounds::StateRounds(RunState& run, Accounts& accounts, const AggregatorOptions& options,
                         const Membership& membership, Communicator& agreement)
    : run_(run),
      accounts_(accounts),
      options_(options),
      membership_(membership),
      agreement_(agreement),
      commit_(membership) {}

std::string StateRounds::place(const char* doing) const {
  return "[rank " + std::to_string(membership_.place.rank) + ", step " +
         std::to_string(run_.step()) + ", " + doing + "] ";
}

AggregatorState StateRounds::portable_state(const Stats& stats, Communicator& lane,
                                            std::uint32_t sequence) {
  const Deadline deadline = Clock::now() + options_.timeout;
  Terms terms = run_.terms();
  terms.purpose = Terms::Purpose::portable_state;
  const auto agree = [&](const CommitRound::Opinion& own) {
    auto outcome = commit_.agree(agreement_, sequence, deadline, own, terms);
    if (outcome.failure) std::rethrow_exception(outcome.failure->exception());
    return outcome;
  };
  const std::optional<Failure> none;
  agree({.failure = none});  // or residuals of different units would be added up
  AggregatorState state;
  std::optional<Failure> failure;
  try {
    AggregatorState own = run_.save(stats);
    own.fingerprint = run_.fingerprint_of_model();
    state = join_states(std::move(own), run_.model(), membership_, lane, agreement_, deadline);
  } catch (const PeerError&) {
    throw;
  } catch (...) {
    failure = Failure::current(place("making a portable state"));
    failure->kind = Failure::Kind::state;  // nothing has changed: the run goes on
  }
  const std::uint64_t identity = failure ? 0 : checksum(state) | 1;
  const auto outcome = agree({.failure = failure, .value = identity});
  accounts_.leave_out_traffic();
  if (outcome.values_differ) {
    throw StateError(
        "[state] the ranks' portable states differ: a message came damaged; make one again");
  }
  return state;
}

std::vector<std::string> StateRounds::gather(const std::string& own) {
  std::vector<std::string> texts = gather_texts(own, agreement_, Clock::now() + options_.timeout);
  accounts_.leave_out_traffic();
  return texts;
}

// Twice: a rank to which the first verdicts came damaged can still say so.
CommitRound::Outcome StateRounds::agree_to_load(const std::optional<Failure>& own,
                                                std::uint64_t identity, std::uint32_t sequence) {
  const Deadline deadline = Clock::now() + options_.timeout;
  const Terms terms{.purpose = Terms::Purpose::state};
  CommitRound::Outcome first;
  std::optional<Failure> damaged;
  try {
    first =
        commit_.agree(agreement_, sequence, deadline, {.failure = own, .value = identity}, terms);
  } catch (const ProtocolError&) {
    damaged = Failure::current(place("loading a state"));
    damaged->kind = Failure::Kind::state;  // agreed on below: the run goes on
  }
  const CommitRound::Outcome second =
      commit_.agree(agreement_, sequence, deadline, {.failure = damaged}, terms);
  return second.failure ? second : first;
}

namespace {

/// What the others must know of a state: of each layer its level, and whether it is critical.
std::string text_of(const AggregatorState& state) {
  std::string text;
  for (std::size_t i = 0; i < state.layers.size(); ++i) {
    text += (state.layers[i].critical ? '!' : ' ') + to_string(state.plan.levels[i]) + '\n';
  }
  return text;
}

// The plan of all layers, from the ranks' own; nothing when some rank has none, and says so.
void join_plans(RunState::Loadable& loadable, const Membership& membership,
                const std::vector<std::string>& said) {
  Plan& plan = loadable.plan;
  plan = loadable.state.plan;
  for (const LayerState& layer : loadable.state.layers) loadable.critical.push_back(layer.critical);
  if (membership.is_one_group()) return;
  const std::vector<LayerEstimate> estimates = std::move(plan.estimates);
  plan.layers.clear();
  for (const ModelLayer& layer : membership.layers) plan.layers.push_back(layer.spec.name);
  plan.levels.assign(plan.layers.size(), Level{});
  plan.estimates.assign(estimates.empty() ? 0 : plan.layers.size(), LayerEstimate{});
  loadable.critical.assign(plan.layers.size(), true);
  for (int rank = 0; rank < membership.place.ranks; ++rank) {
    std::istringstream lines(said[static_cast<std::size_t>(rank)]);
    const std::vector<std::size_t>& layers = membership.group(rank).layers;
    std::string line;
    for (std::size_t i = 0; i < layers.size() && std::getline(lines, line); ++i) {
      loadable.critical[layers[i]] = line.at(0) == '!';
      plan.levels[layers[i]] = parse_level(line.substr(1));
    }
  }
  // Should others who have these layers say something else, the plan's hash tells.
  for (std::size_t i = 0; i < membership.here().size(); ++i) {
    const std::size_t layer = membership.here()[i];
    plan.levels[layer] = loadable.state.plan.levels[i];
    loadable.critical[layer] = loadable.state.layers[i].critical;
    if (!estimates.empty()) plan.estimates[layer] = estimates[i];
  }
}

}  // namespace

void StateRounds::load(std::optional<AggregatorState> state, const std::string& problem,
                       std::uint32_t sequence) {
  std::uint64_t identity = 0;
  std::optional<RunState::Loadable> loadable;
  std::optional<Failure> own;
  if (!problem.empty()) own = Failure{Failure::Kind::state, problem};
  if (state) {
    try {
      loadable = run_.prepare(std::move(*state));
    } catch (...) {
      own = Failure::current("");
    }
  }
  std::vector<std::string> said;
  if (!membership_.is_one_group()) {
    said = gather_texts(loadable ? text_of(loadable->state) : "", agreement_,
                        Clock::now() + options_.timeout);
  }
  if (loadable) {
    try {
      join_plans(*loadable, membership_, said);
      identity = identity_of(loadable->state, loadable->plan.hash());
    } catch (...) {
      own = Failure::current("");
    }
  }
  const auto outcome = agree_to_load(own, identity, sequence);
  if (own) std::rethrow_exception(own->exception());
  if (outcome.failure) std::rethrow_exception(outcome.failure->exception());
  if (outcome.values_differ) {
    throw StateError("[state] the ranks' states are of different steps or plans; load one save");
  }
  accounts_.resume(loadable->state.stats);
  run_.load(std::move(*loadable));
}

}  // namespace lgreco
