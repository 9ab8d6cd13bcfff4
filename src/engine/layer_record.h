// What the engine knows of one registered layer: its description, its level, its state.
#pragma once

#include <cstdint>
#include <memory>

#include "lgreco/aggregator.h"
#include "lgreco/compressor.h"
#include "src/engine/residual.h"

namespace lgreco {

struct LayerRecord {
  LayerSpec spec;
  MatrixShape shape;
  /// Hash of the name: the layer's part of every RandomKey.
  std::uint64_t id = 0;

  /// Set by use(): the level of the current plan and its compressor. One of `coded` and `linear` is
  /// null; with `linear` comes `factor_codec`, which takes its factors over the wire.
  Level level;
  std::unique_ptr<CodedCompressor> coded;
  std::unique_ptr<LinearCompressor> linear;
  std::unique_ptr<CodedCompressor> factor_codec;

  Residual residual;
  LinearState linear_state;

  /// Sum of the corrected gradients (gradient + residual) of `window_steps` steps.
  std::vector<float> window;
  std::uint64_t window_steps = 0;
  /// That of the step in flight: counts when the step is committed.
  std::vector<float> pending_window;

  explicit LayerRecord(LayerSpec layer, DType residual_dtype = DType::f32);

  /// Switch to `new_level`. Residual and warm factor stay; new columns of the factor are drawn from
  /// `key`.
  void use(const Level& new_level, const RandomKey& key);
};

}  // namespace lgreco
