#include "lgreco/plan.h"

#include <xxhash.h>

#include <array>

#include "lgreco/compressor.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

// By value.
constexpr std::array<std::string_view, 6> kReasons = {"fewest bytes within the budget",
                                                      "least time within the budget",
                                                      "dense is faster",
                                                      "no other level suits",
                                                      "zero or not finite: the reference",
                                                      "nothing is within the budget"};

}  // namespace

std::string_view name_of(Reason reason) { return kReasons.at(static_cast<std::size_t>(reason)); }

Reason parse_reason(std::string_view name) {
  for (std::size_t i = 0; i < kReasons.size(); ++i) {
    if (kReasons[i] == name) return static_cast<Reason>(i);
  }
  throw ConfigError("[plan] '" + std::string(name) + "' is no reason for a level");
}

std::uint64_t Plan::hash() const {
  std::string text;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    text += layers[i] + '\0' + to_string(levels[i]) + '\0' +
            std::to_string(row_of(levels[i].method).wire_version) + '\n';
  }
  return XXH3_64bits(text.data(), text.size());
}

}  // namespace lgreco
