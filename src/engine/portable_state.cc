#include "src/engine/portable_state.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <utility>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "src/engine/gather.h"

namespace lgreco {
namespace {

/// What a rank has of a layer; sent as it is.
struct Having {
  std::uint64_t residual, window, window_steps;
};

using HavingOfRank = std::vector<std::vector<Having>>;  // by rank of the lane, then by layer

HavingOfRank who_has_what(const AggregatorState& own, Communicator& lane, Deadline deadline) {
  std::vector<Having> mine;
  for (const LayerState& layer : own.layers) {
    mine.push_back({layer.residual.size(), layer.window.size(), layer.window_steps});
  }
  const std::size_t bytes = mine.size() * sizeof(Having);
  const std::vector<std::size_t> sizes(static_cast<std::size_t>(lane.size()), bytes);
  HavingOfRank of_rank;
  for (const auto& message : gather(std::as_bytes(std::span(mine)), sizes, lane, deadline)) {
    std::vector<Having>& theirs = of_rank.emplace_back(mine.size());
    if (bytes > 0) std::memcpy(theirs.data(), message.data(), bytes);
  }
  return of_rank;
}

/// An even share of `count` values.
std::pair<std::size_t, std::size_t> piece_of(std::size_t rank, std::size_t ranks,
                                             std::size_t count) {
  return {count * rank / ranks, count * (rank + 1) / ranks};
}

/// `has[r]`: rank r has a residual of `count` values; the others' are zero.
std::vector<float> mean_residual(const std::vector<float>& own, const std::vector<bool>& has,
                                 std::size_t count, Communicator& lane, Deadline deadline) {
  const std::size_t ranks = has.size(), self = static_cast<std::size_t>(lane.rank());
  const auto [begin, end] = piece_of(self, ranks, count);
  std::vector<std::span<const std::byte>> sent(ranks);
  std::vector<std::vector<float>> pieces(ranks);
  std::vector<std::span<std::byte>> received(ranks);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto [from, to] = piece_of(rank, ranks, count);
    if (has[self]) sent[rank] = std::as_bytes(std::span(own).subspan(from, to - from));
    if (has[rank]) pieces[rank].resize(end - begin);
    received[rank] = std::as_writable_bytes(std::span(pieces[rank]));
  }
  lane.all_to_all(sent, received, deadline);
  std::vector<double> sums(end - begin);
  for (const std::vector<float>& piece : pieces) {
    for (std::size_t i = 0; i < piece.size(); ++i) sums[i] += piece[i];
  }
  std::vector<float> means(count);
  std::transform(sums.begin(), sums.end(), means.begin() + static_cast<std::ptrdiff_t>(begin),
                 [&](double sum) { return static_cast<float>(sum / static_cast<double>(ranks)); });
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto [from, to] = piece_of(rank, ranks, count);
    received[rank] = std::as_writable_bytes(std::span(means).subspan(from, to - from));
  }
  lane.all_gather(received[self], received, deadline);
  return means;
}

/// The values of rank `owner`, on every rank.
std::vector<float> values_of(std::size_t owner, std::size_t count, std::vector<float> own,
                             Communicator& lane, Deadline deadline) {
  if (owner != static_cast<std::size_t>(lane.rank())) own.assign(count, 0.0f);
  std::vector<std::span<std::byte>> slots(static_cast<std::size_t>(lane.size()));
  slots[owner] = std::as_writable_bytes(std::span(own));
  lane.all_gather(slots[static_cast<std::size_t>(lane.rank())], slots, deadline);
  return own;
}

/// Among those who hold the same layers.
void join_in_lane(AggregatorState& state, Communicator& lane, Deadline deadline) {
  const HavingOfRank of_rank = who_has_what(state, lane, deadline);
  for (std::size_t i = 0; i < state.layers.size(); ++i) {
    LayerState& layer = state.layers[i];
    std::vector<bool> has;
    std::size_t count = 0, measures = 0;
    for (std::size_t rank = 0; rank < of_rank.size(); ++rank) {
      const Having& having = of_rank[rank][i];
      has.push_back(having.residual > 0);
      count = std::max<std::size_t>(count, having.residual);
      if (having.window_steps > of_rank[measures][i].window_steps) measures = rank;
    }
    if (count > 0) layer.residual = mean_residual(layer.residual, has, count, lane, deadline);
    layer.window_steps = of_rank[measures][i].window_steps;
    layer.window =
        values_of(measures, of_rank[measures][i].window, std::move(layer.window), lane, deadline);
  }
}

/// The joined parts of all groups: each rank gets them from those of equal place in their groups.
std::vector<AggregatorState> parts_of_groups(AggregatorState own, const Membership& membership,
                                             Communicator& agreement, Deadline deadline) {
  if (membership.is_one_group()) return {std::move(own)};
  const std::vector<int>& mine = membership.group(membership.place.rank).ranks;
  const auto place = std::ranges::find(mine, membership.place.rank) - mine.begin();
  const std::vector<std::byte> bytes = serialize(own);
  const std::uint64_t length = bytes.size();
  const auto ranks = static_cast<std::size_t>(membership.place.ranks);
  const auto lengths = gather(std::as_bytes(std::span(&length, 1)),
                              std::vector<std::size_t>(ranks, sizeof length), agreement, deadline);
  std::vector<std::span<const std::byte>> sent(ranks);
  std::vector<std::vector<std::byte>> messages(ranks);
  std::vector<std::span<std::byte>> received(ranks);
  for (const Peers& peers : membership.groups) {
    const auto partner = static_cast<std::size_t>(peers.ranks[static_cast<std::size_t>(place)]);
    std::uint64_t announced;
    std::memcpy(&announced, lengths[partner].data(), sizeof announced);
    messages[partner].resize(announced);
    sent[partner] = bytes;
    received[partner] = messages[partner];
  }
  agreement.all_to_all(sent, received, deadline);
  std::vector<AggregatorState> parts;
  for (std::vector<std::byte>& message : messages) {
    if (message.empty()) continue;
    try {
      parts.push_back(parse_state(message));
    } catch (const StateError& error) {
      throw StateError(std::string("[state] a part of another rank came damaged: ") + error.what());
    }
    std::vector<std::byte>().swap(message);
  }
  return parts;
}

/// But for its layers.
AggregatorState without_layers(AggregatorState state) {
  state.layers.clear();
  state.plan.layers.clear();
  state.plan.levels.clear();
  state.plan.estimates.clear();
  return state;
}

void move_layer(AggregatorState& from, std::size_t layer, AggregatorState& to) {
  to.plan.layers.push_back(from.plan.layers[layer]);
  to.plan.levels.push_back(from.plan.levels[layer]);
  if (!from.plan.estimates.empty()) to.plan.estimates.push_back(from.plan.estimates[layer]);
  to.layers.push_back(std::move(from.layers[layer]));
}

/// The layers of `specs`, in their order, out of `parts`. Throws StateError when none has one.
AggregatorState assembled(AggregatorState base, std::vector<AggregatorState>& parts,
                          const std::vector<LayerSpec>& specs) {
  std::map<std::string, std::pair<AggregatorState*, std::size_t>> places;
  for (AggregatorState& part : parts) {
    for (std::size_t i = 0; i < part.plan.layers.size(); ++i) {
      places.try_emplace(part.plan.layers[i], &part, i);
    }
  }
  for (const LayerSpec& spec : specs) {
    const auto found = places.find(spec.name);
    if (found == places.end()) {
      throw StateError("[state] the portable state has no layer '" + spec.name + "'");
    }
    move_layer(*found->second.first, found->second.second, base);
    places.erase(found);
  }
  return base;
}

}  // namespace

AggregatorState join_states(AggregatorState own, const std::vector<LayerSpec>& model,
                            const Membership& membership, Communicator& lane,
                            Communicator& agreement, Deadline deadline) {
  std::string head;
  if (agreement.rank() == 0) {
    const std::vector<std::byte> bytes = serialize(without_layers(own));
    head.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  head = gather_texts(head, agreement, deadline)[0];
  join_in_lane(own, lane, deadline);
  std::vector<AggregatorState> parts =
      parts_of_groups(std::move(own), membership, agreement, deadline);
  AggregatorState joined = assembled(parse_state(std::as_bytes(std::span(head))), parts, model);
  joined.rank = 0;
  joined.size = 0;
  return joined;
}

AggregatorState part_of_state(AggregatorState portable, const std::vector<LayerSpec>& layers,
                              Place place) {
  if (portable.plan.layers.size() != portable.layers.size() ||
      portable.plan.levels.size() != portable.layers.size() ||
      (!portable.plan.estimates.empty() &&
       portable.plan.estimates.size() != portable.layers.size())) {
    throw StateError("[state] the plan has another number of layers than the state");
  }
  AggregatorState base = without_layers(portable);
  base.rank = place.rank;
  base.size = place.ranks;
  std::vector<AggregatorState> parts;
  parts.push_back(std::move(portable));
  return assembled(std::move(base), parts, layers);
}

}  // namespace lgreco
