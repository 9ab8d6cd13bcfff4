#include "src/engine/exchange_cache.h"

namespace lgreco {
namespace {

// Buffers of a set of layers that was not seen for so many buckets are given back.
constexpr std::int32_t kRemembered = 4096;

}  // namespace

Exchange& ExchangeCache::of(const std::vector<Gradient>& gradients) {
  for (const auto& exchange : exchanges_) {
    if (exchange->fits(gradients)) return *exchange;
  }
  exchanges_.push_back(std::make_unique<Exchange>(gradients, specs_, values_, place_, trace_));
  return *exchanges_.back();
}

void ExchangeCache::forget_unused(std::uint32_t now) {
  std::erase_if(exchanges_, [now](const auto& exchange) {
    // As a difference, since the counter begins anew after 2^32.
    return static_cast<std::int32_t>(now - exchange->context().sequence) > kRemembered;
  });
}

}  // namespace lgreco
