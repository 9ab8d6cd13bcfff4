// The two ways of `quantize`.
#pragma once

#include <memory>

#include "lgreco/compressor.h"

namespace lgreco {

/// By level.rounding: quantize.cc has the stochastic one, quantize_nearest.cc the other.
std::unique_ptr<CodedCompressor> make_quantize_nearest(const Level& level);

}  // namespace lgreco
