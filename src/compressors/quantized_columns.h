// Columns of a factor in a few bits a number: the payload of `quantize`, column by column.
#pragma once

#include <cstddef>
#include <memory>

#include "lgreco/compressor.h"

namespace lgreco {

/// Each run of `column` values is quantised by itself to nearest, in buckets of 256; the last run
/// may be shorter. So a payload of whole columns is theirs one after the other. Without rows there
/// are no values. REQUIRES: 2 <= bits <= 8.
std::unique_ptr<CodedCompressor> quantized_columns(int bits, std::size_t column);

/// The share of its energy that a column loses when its values are normal.
double rounding_loss_of_normal(int bits);

}  // namespace lgreco
