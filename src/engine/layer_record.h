// What the engine knows of one registered layer: its description, its level, its state.
#pragma once

#include <cstdint>
#include <memory>

#include "lgreco/aggregator.h"
#include "lgreco/compressor.h"

namespace lgreco {

struct LayerRecord {
  LayerSpec spec;
  MatrixShape shape;
  /// Hash of the name: the layer's part of every RandomKey.
  std::uint64_t id = 0;

  /// Set by use(): the level of the current plan and its compressor (one of the two is null).
  Level level;
  std::unique_ptr<CodedCompressor> coded;
  std::unique_ptr<LinearCompressor> linear;

  /// Empty until the layer first leaves something unsent.
  std::vector<float> residual;
  LinearState linear_state;
  std::vector<float> window;
  std::uint64_t window_steps = 0;

  explicit LayerRecord(LayerSpec layer);

  /// Switch to `new_level`. Residual and warm factor stay.
  void use(const Level& new_level);
};

}  // namespace lgreco
