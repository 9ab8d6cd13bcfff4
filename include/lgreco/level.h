// A level: a method with its parameter, such as `quantize:4`, `topk:0.01`, `low_rank:4` or
// `entropy:2`.
//
// The spelling is the same in C++, Python, plans, docs and the command line. Settings that differ
// from their default follow the parameter: `quantize:4:bucket=512:rounding=stochastic`,
// `topk:0.01:values=2`, `topk:0.01:values=fp32`, `low_rank:4:min_ratio=1:factors=8`. A coded
// method's two encodings, of what is averaged and of the mean, may have parameters of their own:
// `topk:0.03+0.1`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lgreco/dtype.h"
#include "lgreco/layer.h"

namespace lgreco {

/// 0 to 127 belong to the library; methods from elsewhere take 128 to 255 (lgreco/method.h).
enum class Method : std::uint8_t {
  dense = 0,
  cast = 1,
  quantize = 2,
  topk = 3,
  low_rank = 4,
  entropy = 5
};

/// Stochastic is unbiased; nearest loses far less, and is for error feedback.
enum class Rounding : std::uint8_t { stochastic = 0, nearest = 1 };

/// A method uses the settings that its row names (lgreco/method.h); the others keep their defaults.
struct Level {
  Method method = Method::dense;
  /// quantize: bits; topk: density; low_rank: rank; entropy: bits a value; cast and dense: 0.
  double parameter = 0;
  /// Coded methods: the parameter of the second encoding, of the mean, where it is another than
  /// that of the first, of what is to be averaged; 0: the same. `quantize:2+4`
  double gather_parameter = 0;
  /// quantize: values that share one grid.
  std::uint32_t bucket = 512;
  Rounding rounding = Rounding::nearest;
  /// cast: the type cast to; topk: the type of the values sent.
  DType values = DType::bf16;
  /// topk: bits of a value sent, 2 to 8; 0: it is sent as `values`.
  std::uint8_t value_bits = 4;
  /// low_rank: a layer takes part when min_ratio * (rows + cols) * rank < rows * cols.
  double min_ratio = 2.0;
  /// Linear methods: the type of what they sum on the wire; low_rank: f32 or bf16.
  DType factors = DType::f32;
  /// The same in bits a number, 2 to 8, where `factors` is f32; 0: it is the type that counts.
  std::uint8_t factor_bits = 0;

  bool operator==(const Level&) const = default;
};

/// Parse a spelling. Throws ConfigError naming the unknown part and what is possible.
Level parse_level(std::string_view spelling);

/// The inverse of parse_level: parse_level(to_string(l)) == l, but for settings of other methods,
/// which are not spelled.
std::string to_string(const Level& level);

/// Throws ConfigError when a setting is not possible, so that to_string() could not be parsed, or
/// when there is no such method.
void check(const Level& level);

/// The levels of the two encodings: those of a level without a gather_parameter are the level
/// itself.
Level scatter_level(const Level& level);
Level gather_level(const Level& level);

/// How a tensor travels that is not compressed: `dense`, or as a cast to its own 16-bit type.
Level uncompressed(DType dtype);

/// What `layer` really gets when `level` is asked for: ranks are clipped to min(rows, cols); a
/// layer that the level does not suit travels dense. Short vectors (biases, norms) travel dense,
/// but for quantize to nearest from 6 bits on, and so does every layer whose compressed form would
/// not be at most half the size (cast excepted). 16-bit layers travel as a cast to their own type
/// where others are dense. Methods from elsewhere may have rules of their own.
Level resolve(const Level& level, const LayerSpec& layer);

/// Levels of the same family around `reference` that a planner may choose from, for any layer:
/// low_rank: each rank from ceil(rank/2) to 2*rank (L-GreCo, section 5); quantize: each width from
/// bits/2 to min(8, 2*bits); topk and entropy: density or rate times 2^(k/2), k = -4..4. Ends with
/// `dense`. What a method's row says for others. Where the reference's two encodings have
/// parameters of their own, these keep their ratio in all levels.
std::vector<Level> neighbours(const Level& reference);

/// Levels of all families, for a planner that may mix them; each once, `dense` last:
/// low_rank: each rank from 1 to 4 times the reference's (to 16 when it is of another family), but
/// not beyond 64 or the reference's own rank, whichever is larger, and such ranks (from 16 on in
/// steps of about an eighth) with factors of 8, 6 and 4 bits; quantize: 1 to 8 bits; topk:
/// densities from 0.001 to 0.5 in steps of about 2, with values of 2, 4 and 6 bits unless the
/// reference has others; entropy: rates from 0.1 to 6; cast:bf16. Levels of the reference's family
/// have its other settings. Registered methods come first.
std::vector<Level> mixed_levels(const Level& reference);

/// Payload bytes of one layer at a level: what a rank would hand over for the whole layer in all of
/// its rounds; the mean of both encodings where they differ, as a rank sends as much of one as of
/// the other. The planner's cost; the wire adds the collective's factor, equal for all methods.
std::size_t payload_bytes(const Level& level, const MatrixShape& shape);

}  // namespace lgreco
