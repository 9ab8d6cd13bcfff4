// What the library knows of a method: one row, defined in the file of the method.
//
// Parsing, planning, the engine, the command line and the reports look up rows and know no method
// by name. A program adds a method of its own with register_method(); examples/custom_compressor
// does it in a hundred lines.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lgreco/compressor.h"
#include "lgreco/layer.h"
#include "lgreco/level.h"

namespace lgreco {

/// A part of a spelling that has its place in Level, such as `bucket=512`.
struct Setting {
  std::string_view key;
  /// What may stand there, to complete "bucket must be ...".
  std::string_view possible;
  /// Of any level. Not written into a spelling where it equals that of a default Level.
  std::string (*spell)(const Level& level);
  /// The inverse; false when `value` is not possible, with `level` as it was.
  bool (*parse)(std::string_view value, Level& level);
};

/// A layer to be measured, finite and not empty. A sum over ranks encodes each run of `piece`
/// values by itself, of which the last may be shorter.
struct LayerValues {
  std::span<const float> values;
  MatrixShape shape;
  std::size_t piece;
};

/// The rule of MethodEntry::suits where a method has none of its own: a matrix or a vector of 4096
/// elements at least, whose payload is at most half its size.
bool is_worth_coding(Level& level, const LayerSpec& layer);
/// The payload is at most half the layer's size.
bool is_small_enough(const Level& level, const LayerSpec& layer);
void only_the_reference(const Level& reference, std::vector<Level>& levels);
double nothing_more_to_measure(const MatrixShape& shape);
/// The payload's bytes in elements of 32 bits.
double payload_elements(const Level& level, const MatrixShape& shape);

/// All functions are called by any thread, and equal arguments must give equal results on all
/// ranks.
struct MethodEntry {
  MethodRow row;

  /// How the parameter is written when it is no number; null: it is one (or there is none).
  const Setting* parameter = nullptr;
  /// Those that may follow the parameter, in the order in which they are written.
  std::span<const Setting> settings = {};

  /// Whether `level` compresses `layer`, which otherwise travels uncompressed. May change the level
  /// into what the layer really gets, such as a smaller rank; again gives the same.
  bool (*suits)(Level& level, const LayerSpec& layer) = is_worth_coding;
  /// Append the levels around `reference`, one of this method, that a planner may choose from, for
  /// neighbours().
  void (*neighbours)(const Level& reference, std::vector<Level>& levels) = only_the_reference;
  /// The same for mixed_levels(): all that are worth a try beside other methods. `reference` is the
  /// row's example when the planner's is of another method.
  void (*family)(const Level& reference, std::vector<Level>& levels) = only_the_reference;

  /// Add to sums[i] the square of what levels[i], all of this method, loses of the layer:
  /// analyze()'s part, for all levels at once. REQUIRES: sums.size() == levels.size().
  void (*add_losses)(const LayerValues& layer, std::span<const Level> levels,
                     std::span<double> sums) = nullptr;
  /// Operations for each element of a layer that add_losses takes beyond a few passes over it.
  double (*cost_to_measure)(const MatrixShape& shape) = nothing_more_to_measure;

  /// Elements of 32 bits that a layer sends, as papers count: without headers and positions.
  double (*elements_sent)(const Level& level, const MatrixShape& shape) = payload_elements;
  /// Stands for the name where a plot has little room; 0: the parameter alone.
  char letter = 0;

  /// One of the two, by row.coded.
  std::unique_ptr<CodedCompressor> (*make_coded)(const Level& level) = nullptr;
  std::unique_ptr<LinearCompressor> (*make_linear)(const Level& level) = nullptr;
};

/// Throws ConfigError when there is no such method.
const MethodEntry& entry_of(Method method);

/// The parameter as it is spelled; empty when the method has none.
std::string spell_parameter(const Level& level);

/// Add a method, on every rank and before anything else of the library is called: not thread-safe.
/// What `entry` points to must live as long as the program. Throws ConfigError when the name or the
/// id is taken, the id is below 128, or the row contradicts itself; the table is as it was then.
void register_method(const MethodEntry& entry);

}  // namespace lgreco
