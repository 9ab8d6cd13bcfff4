#include "lgreco/plan.h"

#include <xxhash.h>

namespace lgreco {

std::uint64_t Plan::hash() const {
  std::string text;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    text += layers[i] + '\0' + to_string(levels[i]) + '\n';
  }
  return XXH3_64bits(text.data(), text.size());
}

}  // namespace lgreco
