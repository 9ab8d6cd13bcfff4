// One exchange, with its buffers, for each set of layers that was handed over at once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lgreco/values.h"
#include "src/engine/exchange.h"

namespace lgreco {

class ExchangeCache {
 public:
  /// All must outlive it.
  ExchangeCache(Values& values, const std::vector<LayerSpec>& specs, Place place, Trace& trace)
      : values_(values), specs_(specs), place_(place), trace_(trace) {}

  /// That is free, of exactly these layers; made when there is none.
  Exchange& of(const std::vector<Gradient>& gradients);
  /// Buckets are regrouped now and then, and the old ones do not come again. `now`: the sequence
  /// number of the newest bucket.
  void forget_unused(std::uint32_t now);
  /// Their levels are no more.
  void clear() { exchanges_.clear(); }

 private:
  Values& values_;
  const std::vector<LayerSpec>& specs_;
  Place place_;
  Trace& trace_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
};

}  // namespace lgreco
