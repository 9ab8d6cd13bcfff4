// One array as bytes and back, without ranks: what `lgreco.encode` and `lgreco.decode` do.
//
// The payload of a coded level is what docs/wire_format.md says. That of a linear level are the
// sums of all its rounds, of this array alone and from a state drawn anew, one after the other in
// the type of its factors. Nothing is kept between calls, which any threads may make at once.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lgreco/compressor.h"

namespace lgreco {

/// payload_bytes(level, shape) bytes; of a level whose two encodings differ, the first one's.
/// Throws ConfigError when `level` is not possible, when there are not as many values as the shape
/// says, or when a value is too large for the level (or not finite, for a linear one).
std::vector<std::byte> encode(std::span<const float> values, const MatrixShape& shape,
                              const Level& level, const RandomKey& key);

/// Make `values` those that `payload` stands for. `key` is that of encode(): the library's own
/// methods do not look at it. Throws ConfigError when `level` is not possible. A payload of a wrong
/// size (before memory is taken for the values) or with an impossible content is refused, and
/// `values` are unspecified then.
Status decode(std::span<const std::byte> payload, const MatrixShape& shape, const Level& level,
              const RandomKey& key, std::vector<float>& values);

}  // namespace lgreco
