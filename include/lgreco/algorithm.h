// How a vector is averaged over the ranks, in the words of collectives.
#pragma once

#include <cstdint>

namespace lgreco {

/// Of a payload of p bytes, over N ranks:
///   algorithm   a rank sends      collectives   encodings of a value
///   sharded     2 (N - 1) / N p   2             2: by each rank, then the mean by its owner
///   gathered    (N - 1) p         1             1
/// Every method is averaged by the same.
enum class Algorithm : std::uint8_t { sharded, gathered };

/// Between two ranks a payload that goes to everybody is no more bytes, loses less and takes one
/// collective less. From three on it would be 1.5 times the bytes and more.
constexpr Algorithm algorithm_for(int ranks) {
  return ranks == 2 ? Algorithm::gathered : Algorithm::sharded;
}

}  // namespace lgreco
