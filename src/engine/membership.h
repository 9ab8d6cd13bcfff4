// Who has which layers, among the ranks that commit together: the same on all of them.
#pragma once

#include <cstddef>
#include <vector>

#include "lgreco/communicator.h"
#include "lgreco/layer.h"
#include "src/engine/place.h"

namespace lgreco {

/// A layer of this rank or of another one.
struct ModelLayer {
  LayerSpec spec;
  MatrixShape shape;
  std::vector<int> holders;  // ascending
};

/// Ranks that average with each other.
struct Peers {
  std::vector<int> ranks;           // ascending
  std::vector<std::size_t> layers;  // that they have, in their order of registration
};

struct Membership {
  /// Of this rank among those that commit together. Ranks are counted there, here and in errors.
  Place place;
  /// Of all of them, each name once: by the lowest rank that holds it, then as registered there.
  std::vector<ModelLayer> layers;
  std::vector<Peers> groups;
  std::vector<std::size_t> group_of;  // by rank

  bool is_one_group() const { return groups.size() == 1; }
  const Peers& group(int rank) const { return groups[group_of[static_cast<std::size_t>(rank)]]; }
  /// This rank's layers, as indices of `layers`.
  const std::vector<std::size_t>& here() const { return group(place.rank).layers; }
  /// By rank, of messages with `fixed` bytes and `of_layer` bytes for each layer of the sender.
  std::vector<std::size_t> message_bytes(std::size_t fixed, std::size_t of_layer) const;
  /// How many ranks sum a layer.
  int averaging_ranks() const { return static_cast<int>(group(place.rank).ranks.size()); }
};

/// All ranks hold `layers`.
Membership one_group(const std::vector<LayerSpec>& layers, Place place);

/// Collective, over `agreement` and over `lane`, the ranks that hold `layers`. Throws on all ranks
/// of `agreement` the same MismatchError when some who average have different layers, or as many
/// ranks do not average everywhere, and the same ConfigError when two layers have one name.
Membership gather_membership(const std::vector<LayerSpec>& layers, Communicator& lane,
                             Communicator& agreement, Deadline deadline);

}  // namespace lgreco
