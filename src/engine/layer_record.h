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
#include "src/engine/shard_layout.h"

namespace lgreco {

struct LayerRecord {
  LayerSpec spec;
  MatrixShape shape;
  /// LayerSpec::id().
  std::uint64_t id = 0;

  /// Set by use(): the level of the current plan and its compressor. One of `coded` and `linear` is
  /// null; with `linear` come `factor_codecs`, by round, which take its factors over the wire.
  Level level;
  std::unique_ptr<CodedCompressor> coded;
  std::unique_ptr<CodedCompressor> coded_mean;  // of the mean; null: `coded`
  std::unique_ptr<LinearCompressor> linear;
  std::array<std::unique_ptr<CodedCompressor>, 2> factor_codecs;
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

  /// What the newest step that changed this layer found, when that is kept.
  struct Previous {
    std::uint64_t step = 0;  // after it
    bool collected = false;  // into the window, whose former content is in `pending_window`
    Residual residual;
    std::vector<float> factor, interval_sum;
  };
  Previous previous;

  /// How many floats `round` sums, and what takes them over the wire.
  std::size_t summed_floats(int round) const;
  Codecs codecs(int round) const;

  /// Linear, and the ranks' factors are rounded on the wire so much that each rank's residual has
  /// to be what its own part of the last sum lacks. Against the mean alone, as with exact factors,
  /// the ranks' residuals drift apart without end: their mean stays the same, but what rounding
  /// loses grows with them.
  bool keeps_own_part() const { return linear != nullptr && level.factor_bits != 0; }

  explicit LayerRecord(LayerSpec layer, DType residual_dtype = DType::f32);

  /// Switch to `new_level`. Residual and warm factor stay; new columns of the factor are drawn from
  /// `key`. `load` is what each rank owns of the layers before this one, and grows.
  void use(const Level& new_level, const RandomKey& key, std::vector<std::size_t>& load);

  /// Gradients are handed over multiplied by `factor` from here on. False when the residual was
  /// dropped, as it would not be finite any more.
  [[nodiscard]] bool scale(float factor);
  /// Everything that steps have left, but for Accordion's decision.
  void forget();
  /// Before a step is taken over, after which `step` steps are committed: keep what it changes.
  /// What is there of the residual is lost to the step. Takes no memory that reserve_previous()
  /// took.
  void keep_previous(std::uint64_t step, bool collects, bool sums);
  void reserve_previous(std::size_t count);
  /// Undo the step after which `step` steps were committed.
  void restore_previous(std::uint64_t step);
};

}  // namespace lgreco
