#include <array>

#include "src/compressors/compressors.h"

namespace lgreco {
namespace {

// Adding a method: a value of Method, a file with its factory, and a row here.
constexpr std::array kEntries = {
    MethodEntry{{Method::dense, "dense", 1, true, 0, 0, false, "", "dense"}, make_dense, nullptr},
    MethodEntry{
        {Method::cast, "cast", 1, true, 0, 0, false, "type", "cast:bf16"}, make_cast, nullptr},
    MethodEntry{{Method::quantize, "quantize", 2, true, 1, 8, true, "bits", "quantize:4"},
                make_quantize,
                nullptr},
    MethodEntry{{Method::topk, "topk", 1, true, 1e-6, 1, false, "density", "topk:0.01"},
                make_topk,
                nullptr},
    MethodEntry{{Method::low_rank, "low_rank", 1, false, 1, 65535, true, "rank", "low_rank:4"},
                nullptr,
                make_low_rank},
};

constexpr auto kRows = [] {
  std::array<MethodRow, kEntries.size()> rows{};
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = kEntries[i].row;
  return rows;
}();

}  // namespace

std::span<const MethodRow> method_table() { return kRows; }

const MethodEntry& entry_of(Method method) { return kEntries.at(static_cast<std::size_t>(method)); }

const MethodRow& row_of(Method method) { return entry_of(method).row; }

std::unique_ptr<CodedCompressor> coded_compressor(const Level& level) {
  check(level);
  return entry_of(level.method).make_coded(level);
}

std::unique_ptr<LinearCompressor> linear_compressor(const Level& level) {
  check(level);
  return entry_of(level.method).make_linear(level);
}

}  // namespace lgreco
