// The families of `analyze`. Each fills in `errors` where `levels` has its method and leaves the
// others alone. REQUIRES: values are finite, errors.size() == levels.size().
#pragma once

#include <span>

#include "lgreco/compressor.h"

namespace lgreco {

void analyze_cast(std::span<const float> values, std::span<const Level> levels,
                  std::span<double> errors);
void analyze_quantize(std::span<const float> values, std::span<const Level> levels,
                      std::span<double> errors);
void analyze_topk(std::span<const float> values, std::span<const Level> levels,
                  std::span<double> errors);
void analyze_low_rank(std::span<const float> values, const MatrixShape& shape,
                      std::span<const Level> levels, std::span<double> errors);

}  // namespace lgreco
