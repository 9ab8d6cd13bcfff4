// Compressors: how one layer's values become bytes or factors, and come back.
//
// Two shapes exist, and the planner knows neither. A *coded* method (dense, cast, quantize, topk,
// entropy) turns values into a payload of a size known beforehand. A *linear* method (low_rank) is
// a series of plain sums over the ranks. Most callers want `coded_compressor(level)` or
// `linear_compressor(level)`; `is_coded(level.method)` says which.
//
// Compressors are stateless and safe to share between threads. The caller owns every buffer; state
// that lives from step to step (warm factors) is an object handed in. A call means the same on
// every rank and on every CPU: equal inputs give equal bits. No call takes memory from the heap,
// except LinearCompressor::prepare, `analyze` and the messages of refused payloads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lgreco/layer.h"
#include "lgreco/level.h"
#include "lgreco/status.h"

namespace lgreco {

/// Where random numbers come from: a counter generator keyed by (seed, step, layer). Element i of
/// the layer draws the same number whoever computes it, in whatever order.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::uint64_t layer = 0;
};

/// One row of the table of methods; parsing, listing and the conformance suite iterate it. What
/// else the library knows of a method, and how to add one, is in lgreco/method.h.
struct MethodRow {
  Method method;
  std::string_view name;
  /// Changes whenever the bytes of a payload change meaning.
  std::uint8_t wire_version;
  bool coded;
  /// Inclusive range of Level::parameter; equal when there is none.
  double min_parameter;
  double max_parameter;
  bool integer_parameter;
  /// The parameter's meaning, for messages and listings.
  std::string_view parameter_name;
  /// One typical spelling, used in messages and by the conformance suite.
  std::string_view example;
};

std::span<const MethodRow> method_table();
/// Throws ConfigError when there is no such method.
const MethodRow& row_of(Method method);
inline bool is_coded(Method method) { return row_of(method).coded; }

/// Payloads may start at any address; docs/wire_format.md gives their bytes.
class CodedCompressor {
 public:
  virtual ~CodedCompressor() = default;

  /// Exact size of the payload of `count` values; 0 for 0 values.
  virtual std::size_t payload_bytes(std::size_t count) const = 0;

  /// Where values are cut into pieces that are encoded by themselves, it is at multiples of this.
  virtual std::size_t granularity() const { return 1024; }

  /// Encode `values`, which must be finite. `first_element` is the index in the layer of values[0].
  /// REQUIRES: payload.size() == payload_bytes(values.size()).
  /// Returns false, leaving `payload` unspecified, when a finite value cannot be represented (an
  /// overflow of the target type); treat the layer as non-finite then.
  [[nodiscard]] virtual bool encode(std::span<const float> values, const RandomKey& key,
                                    std::size_t first_element,
                                    std::span<std::byte> payload) const = 0;

  /// encode() with error feedback, in fewer passes: values += residual (which may be empty), encode
  /// them, and subtract from them what decoding gives. False when a sum is not finite or encode()
  /// would return false; `values` and `payload` are unspecified then. REQUIRES: as encode(), but
  /// that `values` need not be finite; `residual` is empty or of the size of `values`.
  [[nodiscard]] virtual bool encode_keep_loss(std::span<float> values,
                                              std::span<const float> residual, const RandomKey& key,
                                              std::size_t first_element,
                                              std::span<std::byte> payload) const = 0;

  /// Add the decoded values to `accumulator`. Total over all byte strings: a payload of a wrong
  /// size or with an impossible content is refused, and `accumulator` may then be partly changed.
  virtual Status decode_add(std::span<const std::byte> payload,
                            std::span<float> accumulator) const = 0;
};

/// What a linear method keeps of one layer between steps. Empty until first prepared. Saved in
/// checkpoints, as whole runs of `cols` floats.
struct LinearState {
  /// low_rank: the warm factor Q, column after column: `rank` runs of `cols` floats.
  std::vector<float> factor;
};

class LinearCompressor {
 public:
  virtual ~LinearCompressor() = default;

  /// 1 or 2.
  virtual int rounds() const = 0;
  /// Floats that `round` sums over the ranks.
  virtual std::size_t round_floats(const MatrixShape& shape, int round) const = 0;
  /// Of these, the length of the runs that belong together: quantised, no other shares their scale.
  virtual std::size_t column_floats(const MatrixShape& shape, int round) const {
    return round_floats(shape, round);
  }
  /// Floats that a prepared state of a layer holds.
  virtual std::size_t state_floats(const MatrixShape& shape) const = 0;

  /// Make `state` fit this level: call before the first step and whenever the level changed. What
  /// another level of the method left is kept as far as it fits; the rest is drawn from `key`,
  /// which must be the same on every rank. The only call that may take memory from the heap.
  virtual void prepare(const MatrixShape& shape, const RandomKey& key,
                       LinearState& state) const = 0;

  /// Fill `addend` with this rank's part of `round`. `values` is the layer (gradient + residual);
  /// `means[k]` is the averaged result of the earlier round k, which round k+1 may transform in
  /// place (low_rank orthonormalises it). `key` is that of this step and layer, the same on every
  /// rank and in all calls of the step.
  /// REQUIRES: `state` is prepared; addend.size() == round_floats(shape, round).
  virtual void encode_round(int round, std::span<const float> values, const MatrixShape& shape,
                            const RandomKey& key, const LinearState& state,
                            std::span<const std::span<float>> means,
                            std::span<float> addend) const = 0;

  /// encode_round() of round 0 with error feedback, in fewer passes: values += residual (which may
  /// be empty), and encode them. False when a sum or the addend is not finite; `values` and
  /// `addend` are unspecified then. REQUIRES: as encode_round(); `residual` is empty or of the size
  /// of `values`.
  [[nodiscard]] virtual bool encode_first_round(std::span<float> values,
                                                std::span<const float> residual,
                                                const MatrixShape& shape, const RandomKey& key,
                                                const LinearState& state,
                                                std::span<float> addend) const = 0;

  /// No value that decode() writes from these means exceeds it; infinite or NaN when that is not
  /// known. REQUIRES: the last round was encoded from the means before it.
  virtual double result_bound(std::span<const std::span<float>> means) const = 0;

  /// Write the averaged layer, from the means of all rounds.
  virtual void decode(const MatrixShape& shape, const RandomKey& key,
                      std::span<const std::span<float>> means, std::span<float> values) const = 0;

  /// decode() with error feedback, in fewer passes: what was sent lacks of `values` becomes
  /// `residual`, then the averaged layer becomes `values`. Sent was what decode() gives with `own`
  /// in the place of the last mean: that mean itself, or this rank's part of it as others have it.
  /// REQUIRES: own.size() is that of the last mean; residual.size() == values.size(). These two may
  /// be the same memory: what was sent lacks is left there then.
  virtual void decode_keep_loss(const MatrixShape& shape, const RandomKey& key,
                                std::span<const std::span<float>> means, std::span<const float> own,
                                std::span<float> values, std::span<float> residual) const = 0;

  /// Turn `state` into that for the next step, prepared again; call after every round succeeded.
  /// `key` must be the same on every rank. REQUIRES: `state` is prepared.
  virtual void commit(const MatrixShape& shape, const RandomKey& key,
                      std::span<const std::span<float>> means, LinearState& state) const = 0;
};

/// Of the level's first encoding; that of gather_level(level) is of the second, where they differ.
/// REQUIRES: is_coded(level.method). Throws ConfigError when a parameter is out of range.
std::unique_ptr<CodedCompressor> coded_compressor(const Level& level);
/// REQUIRES: !is_coded(level.method). Throws ConfigError when a parameter is out of range.
std::unique_ptr<LinearCompressor> linear_compressor(const Level& level);
/// What takes the sums of a round of a linear level over the wire, in the type of its factors.
/// REQUIRES: as linear_compressor(); the round exists.
std::unique_ptr<CodedCompressor> factor_codec(const Level& level, const MatrixShape& shape,
                                              int round);

/// Errors ||x - decompress(compress(x))||_2 of one layer at each level, the row of a cost table.
/// All levels of a family share their passes over the layer, so that many cost little more than
/// one. NaN for a layer that is not finite; infinite where a value overflows the type it is sent
/// in. What the numbers are:
///   low_rank: the best approximation of that rank, which warm-started power iteration approaches,
///     with exact factors where they are sent as fp32 or bf16; in bits, a model adds what rounding
///     the two loses: right within 2 % of the error (5 % with 2 and 3 bits) where the values of a
///     column are about normal, and rather too low. The rest is right within 1e-4 when the smaller
///     side is 1024 at most, as far as the error exceeds 1e-5 of the layer's norm; beyond within
///     1 %, as far as it exceeds 1 % of the norm. Many ranks above a quarter of the smaller side
///     take the time of a full decomposition.
///   topk: right within 0.8 % for any values, and far better unless many are almost equal.
///   quantize: with stochastic rounding the root of the expected square over the draws. One draw
///     differs by less than a percent when the layer has some ten thousand values.
///   entropy: exact for pieces of less than 2^18 values. Of longer ones as expected of the step
///     that the planned bytes allow: right within 5 %, and mostly within 1 %.
///   cast: exact. dense: 0.
///   Levels whose two encodings differ: the root of the mean of both squares.
///
/// `pieces`: the layer is cut as for a sum over that many ranks, and every piece has its own k (and
/// begins a bucket). What topk loses depends on it: some percent more for a convolution, many times
/// as much for an embedding of which few rows have a gradient.
///
/// Equal inputs give equal bits, whatever the number of threads and the instruction set; ranks
/// compiled for another architecture may differ in the last bits of low_rank. Takes memory from the
/// heap. REQUIRES: pieces > 0.
std::vector<double> analyze(std::span<const float> values, const MatrixShape& shape,
                            std::span<const Level> levels, int pieces = 1);

}  // namespace lgreco
