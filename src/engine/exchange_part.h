// One layer inside an exchange.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "src/engine/layer_record.h"

namespace lgreco {

/// What a rank has of a layer in this step; the ranks agree on the largest.
enum class Presence : std::uint8_t { absent = 0, present = 1, non_finite = 2 };

struct ExchangePart {
  LayerRecord* record = nullptr;
  /// Gradient + residual. Zero for elements of a layer that is absent or non-finite here.
  std::span<float> values;
  /// The average, valid after the last round when `presence` is `present`.
  std::span<float> result;
  /// This rank's first, the agreed one after round A; round B may still turn it non-finite.
  Presence presence = Presence::absent;

  void agree(Presence other) { presence = std::max(presence, other); }
};

/// What every part of an exchange needs to know.
struct ExchangeSettings {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  bool error_feedback = true;
  /// Add the corrected gradient to the layer's window.
  bool collect_window = false;
};

}  // namespace lgreco
