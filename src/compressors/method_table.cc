#include <algorithm>

#include "lgreco/status.h"
#include "src/compressors/compressors.h"
#include "src/compressors/quantized_columns.h"

namespace lgreco {
namespace {

constexpr std::size_t kMostMethods = 256;  // of one byte on the wire
constexpr std::size_t kFirstOfOthers = 128;

class MethodTable {
 public:
  // Never grown beyond what is reserved here, so that rows stay where they are.
  MethodTable() {
    entries_.reserve(kMostMethods);
    rows_.reserve(kMostMethods);
    for (const MethodEntry* entry : {&kDense, &kCast, &kTopK, &kQuantize, &kLowRank, &kEntropy})
      add(*entry);
  }

  void add(const MethodEntry& entry) {
    entries_.push_back(entry);
    rows_.push_back(entry.row);
  }
  void remove_last() {
    entries_.pop_back();
    rows_.pop_back();
  }

  std::span<const MethodRow> rows() const { return rows_; }
  const MethodEntry* find(Method method) const {
    const auto found =
        std::find_if(entries_.begin(), entries_.end(),
                     [&](const MethodEntry& entry) { return entry.row.method == method; });
    return found == entries_.end() ? nullptr : &*found;
  }

 private:
  std::vector<MethodEntry> entries_;
  std::vector<MethodRow> rows_;  // the same, as they are listed
};

MethodTable& table() {
  static MethodTable table;
  return table;
}

std::string id_of(Method method) { return std::to_string(static_cast<int>(method)); }

void check_entry(const MethodEntry& entry) {
  const MethodRow& row = entry.row;
  const auto require = [&](bool holds, const std::string& problem) {
    if (!holds) throw ConfigError("[method '" + std::string(row.name) + "'] " + problem);
  };
  require(!row.name.empty() && row.name.find(':') == std::string_view::npos,
          "a name has one character at least, and no colon");
  for (const MethodRow& other : method_table()) {
    require(other.name != row.name, "the name is taken; choose another");
    require(other.method != row.method, "the id " + id_of(row.method) + " is that of '" +
                                            std::string(other.name) + "'; choose another");
  }
  require(static_cast<std::size_t>(row.method) >= kFirstOfOthers,
          "the id " + id_of(row.method) + " is the library's; choose one from " +
              std::to_string(kFirstOfOthers) + " to " + std::to_string(kMostMethods - 1));
  require(
      (entry.make_coded != nullptr) == row.coded && (entry.make_linear != nullptr) == !row.coded,
      "a coded method has make_coded, another has make_linear");
  require(entry.suits != nullptr && entry.neighbours != nullptr && entry.family != nullptr &&
              entry.add_losses != nullptr && entry.cost_to_measure != nullptr &&
              entry.elements_sent != nullptr,
          "a function is missing");
}

}  // namespace

std::span<const MethodRow> method_table() { return table().rows(); }

const MethodEntry& entry_of(Method method) {
  const MethodEntry* entry = table().find(method);
  if (entry == nullptr) throw ConfigError("[level] there is no method " + id_of(method));
  return *entry;
}

const MethodRow& row_of(Method method) { return entry_of(method).row; }

void register_method(const MethodEntry& entry) {
  check_entry(entry);
  table().add(entry);
  try {
    if (parse_level(entry.row.example).method != entry.row.method) {
      throw ConfigError("[method '" + std::string(entry.row.name) +
                        "'] its example is a level of another method");
    }
  } catch (...) {
    table().remove_last();
    throw;
  }
}

std::unique_ptr<CodedCompressor> coded_compressor(const Level& level) {
  check(level);
  return entry_of(level.method).make_coded(scatter_level(level));
}

std::unique_ptr<LinearCompressor> linear_compressor(const Level& level) {
  check(level);
  return entry_of(level.method).make_linear(level);
}

std::unique_ptr<CodedCompressor> factor_codec(const Level& level, const MatrixShape& shape,
                                              int round) {
  if (level.factor_bits == 0) return coded_compressor(uncompressed(level.factors));
  return quantized_columns(level.factor_bits,
                           linear_compressor(level)->column_floats(shape, round));
}

}  // namespace lgreco
