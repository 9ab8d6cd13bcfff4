#include "src/engine/membership.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <string>

#include "lgreco/status.h"
#include "src/engine/gather.h"

namespace lgreco {
namespace {

// What each rank tells: with whom it averages (the lowest of them), and its layers.

template <typename Number>
void put(std::string& text, Number number) {
  text.append(reinterpret_cast<const char*>(&number), sizeof number);
}

template <typename Number>
Number take(std::string_view& text) {
  Number number;
  if (text.size() < sizeof number) {
    throw ProtocolError("[compress] a rank's list of layers is cut off");
  }
  std::memcpy(&number, text.data(), sizeof number);
  text.remove_prefix(sizeof number);
  return number;
}

std::string text_of(const std::vector<LayerSpec>& layers) {
  std::string text;
  for (const LayerSpec& layer : layers) {
    put(text, std::uint64_t{layer.name.size()});
    text += layer.name;
    put(text, static_cast<std::uint8_t>(layer.dtype));
    put(text, std::uint64_t{layer.shape.size()});
    for (const std::int64_t extent : layer.shape) put(text, extent);
  }
  return text;
}

std::vector<LayerSpec> layers_in(std::string_view text) {
  std::vector<LayerSpec> layers;
  while (!text.empty()) {
    LayerSpec& layer = layers.emplace_back();
    const auto length = take<std::uint64_t>(text);
    if (length > text.size()) throw ProtocolError("[compress] a rank's list of layers is cut off");
    layer.name = text.substr(0, length);
    text.remove_prefix(length);
    layer.dtype = static_cast<DType>(take<std::uint8_t>(text));
    for (auto left = take<std::uint64_t>(text); left > 0; --left) {
      layer.shape.push_back(take<std::int64_t>(text));
    }
  }
  return layers;
}

/// The ranks of `agreement` in this rank's lane.
int lowest_in(Communicator& lane, int own, Deadline deadline) {
  const std::vector<std::size_t> sizes(static_cast<std::size_t>(lane.size()), sizeof own);
  int lowest = own;
  for (const auto& bytes : gather(std::as_bytes(std::span(&own, 1)), sizes, lane, deadline)) {
    int rank;
    std::memcpy(&rank, bytes.data(), sizeof rank);
    lowest = std::min(lowest, rank);
  }
  return lowest;
}

[[noreturn]] void refuse_layers(const std::vector<LayerSpec>& first, int first_rank,
                                const std::vector<LayerSpec>& other, int rank) {
  std::size_t i = 0;
  while (i < std::min(first.size(), other.size()) && first[i] == other[i]) ++i;
  const auto named = [i](const std::vector<LayerSpec>& layers) {
    return i < layers.size() ? "'" + layers[i].name + "'" : "nothing";
  };
  throw MismatchError("[compress] the ranks differ in layer " + std::to_string(i) + ": rank " +
                      std::to_string(first_rank) + " has " + named(first) + ", rank " +
                      std::to_string(rank) + " has " + named(other) +
                      ", or another shape or dtype of it; ranks that average with each other must "
                      "hold the same layers");
}

}  // namespace

std::vector<std::size_t> Membership::message_bytes(std::size_t fixed, std::size_t of_layer) const {
  std::vector<std::size_t> bytes;
  bytes.reserve(group_of.size());
  for (const std::size_t group : group_of) {
    bytes.push_back(fixed + of_layer * groups[group].layers.size());
  }
  return bytes;
}

Membership one_group(const std::vector<LayerSpec>& layers, Place place) {
  Membership membership{
      .place = place,
      .layers = {},
      .groups = {Peers()},
      .group_of = std::vector<std::size_t>(static_cast<std::size_t>(place.ranks))};
  Peers& all = membership.groups[0];
  all.ranks.resize(static_cast<std::size_t>(place.ranks));
  std::iota(all.ranks.begin(), all.ranks.end(), 0);
  for (const LayerSpec& layer : layers) {
    all.layers.push_back(membership.layers.size());
    membership.layers.push_back({layer, layer.matrix(), all.ranks});
  }
  return membership;
}

Membership gather_membership(const std::vector<LayerSpec>& layers, Communicator& lane,
                             Communicator& agreement, Deadline deadline) {
  const int own = agreement.rank();
  std::string text;
  put(text, lowest_in(lane, own, deadline));
  const std::vector<std::string> texts = gather_texts(text + text_of(layers), agreement, deadline);

  Membership membership{.place = {own, agreement.size()}};
  std::map<int, std::size_t> groups;  // by lowest rank
  std::vector<std::vector<LayerSpec>> layers_of_group;
  std::map<std::string, std::size_t> known;
  for (int rank = 0; rank < membership.place.ranks; ++rank) {
    std::string_view said = texts[static_cast<std::size_t>(rank)];
    const int lowest = take<int>(said);
    const std::vector<LayerSpec> theirs = layers_in(said);
    const auto [found, is_new] = groups.emplace(lowest, membership.groups.size());
    membership.group_of.push_back(found->second);
    if (!is_new) {
      if (theirs != layers_of_group[found->second]) {
        refuse_layers(layers_of_group[found->second], lowest, theirs, rank);
      }
      membership.groups[found->second].ranks.push_back(rank);
      continue;
    }
    layers_of_group.push_back(theirs);
    Peers& peers = membership.groups.emplace_back(Peers{.ranks = {rank}, .layers = {}});
    std::set<std::size_t> seen;
    for (const LayerSpec& layer : theirs) {
      const auto [at, is_unknown] = known.emplace(layer.name, membership.layers.size());
      if (is_unknown) membership.layers.push_back({layer, layer.matrix(), {}});
      peers.layers.push_back(at->second);
      if (!seen.insert(at->second).second || membership.layers[at->second].spec != layer) {
        throw ConfigError("[aggregator] two layers are named '" + layer.name +
                          "', one of them on rank " + std::to_string(rank) +
                          "; a name must identify one layer");
      }
    }
  }
  for (const Peers& peers : membership.groups) {
    if (peers.ranks.size() != membership.groups[0].ranks.size()) {
      throw MismatchError("[compress] the ranks differ in how many average: rank " +
                          std::to_string(membership.groups[0].ranks[0]) + " is one of " +
                          std::to_string(membership.groups[0].ranks.size()) + ", rank " +
                          std::to_string(peers.ranks[0]) + " one of " +
                          std::to_string(peers.ranks.size()) + "; use as many everywhere");
    }
    for (const std::size_t layer : peers.layers) {
      std::vector<int>& holders = membership.layers[layer].holders;
      holders.insert(holders.end(), peers.ranks.begin(), peers.ranks.end());
    }
  }
  for (ModelLayer& layer : membership.layers) std::ranges::sort(layer.holders);
  return membership;
}

}  // namespace lgreco
