// The factories behind the table of methods; one file per method implements one of them.
#pragma once

#include <memory>

#include "lgreco/compressor.h"

namespace lgreco {

std::unique_ptr<CodedCompressor> make_dense(const Level& level);
std::unique_ptr<CodedCompressor> make_cast(const Level& level);
std::unique_ptr<CodedCompressor> make_quantize(const Level& level);
std::unique_ptr<CodedCompressor> make_topk(const Level& level);
std::unique_ptr<LinearCompressor> make_low_rank(const Level& level);

/// A row of the table with its factory: exactly one of the two is set.
struct MethodEntry {
  MethodRow row;
  std::unique_ptr<CodedCompressor> (*make_coded)(const Level&);
  std::unique_ptr<LinearCompressor> (*make_linear)(const Level&);
};

const MethodEntry& entry_of(Method method);

}  // namespace lgreco
