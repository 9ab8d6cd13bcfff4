// Which rank owns which part of the coded layers of a bucket.
//
// In a scatter-reduce-all-gather every part has one owner that sums it. A layer is cut into at most
// as many pieces as there are ranks, and each piece goes to the rank that owns the fewest bytes so
// far, so that the ranks' messages are balanced also when layers are few and unequal. The layout is
// a function of levels and sizes alone: every rank computes the same.
#pragma once

#include <cstddef>
#include <vector>

#include "src/engine/layer_record.h"

namespace lgreco {

/// A run of elements of one layer with its place in the owner's message.
struct Piece {
  std::size_t part = 0;   // position in the list of layers that the layout was made for
  std::size_t first = 0;  // first element
  std::size_t count = 0;
  int owner = 0;
  std::size_t offset = 0;  // of the payload in the owner's message
  std::size_t bytes = 0;
};

/// A message: one flag byte per layer of the list, then the payloads of one owner's pieces, each
/// part padded with zeros to a multiple of 4 bytes.
struct ShardLayout {
  std::vector<Piece> pieces;
  std::vector<std::size_t> message_bytes;  // by owner
};

/// REQUIRES: every layer has a coded level.
ShardLayout shard_layout(const std::vector<const LayerRecord*>& layers, int ranks);

}  // namespace lgreco
