// What the engine knows of one registered layer: its description, its level, its state.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "lgreco/compressor.h"
#include "lgreco/dtype.h"
#include "lgreco/layer.h"
#include "lgreco/level.h"
#include "src/engine/residual.h"

namespace lgreco {

struct LayerRecord {
  LayerSpec spec;
  MatrixShape shape;
  /// LayerSpec::id().
  std::uint64_t id = 0;

  /// Set by use(): the level of the current plan and its compressor. One of `coded` and `linear` is
  /// null; with `linear` comes `factor_codec`, which takes its factors over the wire.
  Level level;
  std::unique_ptr<CodedCompressor> coded;
  std::unique_ptr<LinearCompressor> linear;
  std::unique_ptr<CodedCompressor> factor_codec;
  /// Of the pieces of what each round sums: of the values (coded), or of a factor (linear).
  std::array<std::vector<int>, 2> owners;

  Residual residual;
  LinearState linear_state;

  /// This rank measures the layer for the next plan.
  bool measured_here = false;
  /// Sum of the corrected gradients (gradient + residual) of `window_steps` steps.
  std::vector<float> window;
  std::uint64_t window_steps = 0;
  /// The same and the step in flight: takes its place when the step is committed.
  std::vector<float> pending_window;

  /// Accordion: the sum of the averages of the current interval, the norm of that of the interval
  /// before (-1: none), and its decision.
  std::vector<float> interval_sum;
  double interval_norm = -1;
  bool critical = true;

  explicit LayerRecord(LayerSpec layer, DType residual_dtype = DType::f32);

  /// Switch to `new_level`. Residual and warm factor stay; new columns of the factor are drawn from
  /// `key`. `load` is what each rank owns of the layers before this one, and grows.
  void use(const Level& new_level, const RandomKey& key, std::vector<std::size_t>& load);
};

}  // namespace lgreco
