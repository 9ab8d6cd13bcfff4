#include "lgreco/level.h"

#include <algorithm>
#include <cmath>

#include "lgreco/method.h"
#include "lgreco/status.h"
#include "src/compressors/spelling.h"

namespace lgreco {
namespace {

[[noreturn]] void refuse(std::string_view what, const std::string& why) {
  throw ConfigError("[level] " + std::string(what) + ": " + why);
}

std::string known_methods() {
  std::string list;
  for (const MethodRow& row : method_table()) {
    list += (list.empty() ? "" : ", ") + std::string(row.example);
  }
  return list;
}

std::string_view next_part(std::string_view& rest) {
  const std::size_t colon = rest.find(':');
  const std::string_view part = rest.substr(0, colon);
  rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
  return part;
}

const MethodEntry& find_entry(std::string_view what, std::string_view name) {
  for (const MethodRow& row : method_table()) {
    if (row.name == name) return entry_of(row.method);
  }
  refuse(what, "unknown method '" + std::string(name) + "'; known are " + known_methods());
}

void parse(const Setting& setting, std::string_view value, std::string_view what, Level& level) {
  if (setting.parse(value, level)) return;
  refuse(what, std::string(setting.key) + " must be " + std::string(setting.possible) + ", not '" +
                   std::string(value) + "'");
}

void parse_parameter(const MethodEntry& entry, std::string_view text, std::string_view what,
                     Level& level) {
  if (text.empty()) {
    refuse(what, "the " + std::string(entry.row.parameter_name) + " is missing, as in " +
                     std::string(entry.row.example));
  }
  if (entry.parameter != nullptr) {
    parse(*entry.parameter, text, what, level);
  } else if (const auto number = parse_number(text)) {
    level.parameter = *number;
  } else {
    refuse(what, "'" + std::string(text) + "' is not a number");
  }
}

void parse_setting(const MethodEntry& entry, std::string_view text, std::string_view what,
                   Level& level) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    refuse(what, "'" + std::string(text) + "' is not of the form key=value");
  }
  const std::string_view key = text.substr(0, equals);
  const auto setting = std::find_if(entry.settings.begin(), entry.settings.end(),
                                    [&](const Setting& known) { return known.key == key; });
  if (setting == entry.settings.end()) {
    refuse(what, "'" + std::string(key) + "' is no setting of this method");
  }
  parse(*setting, text.substr(equals + 1), what, level);
}

void check_range(const MethodRow& row, double value) {
  const bool in_range = value >= row.min_parameter && value <= row.max_parameter;
  if (in_range && !(row.integer_parameter && value != std::floor(value))) return;
  refuse(row.name, std::string(row.parameter_name) + " " + spell_number(value) +
                       " is out of range; it must be " +
                       (row.integer_parameter ? "a whole number " : "") + "from " +
                       spell_number(row.min_parameter) + " to " + spell_number(row.max_parameter));
}

}  // namespace

Level parse_level(std::string_view spelling) {
  const std::string what = "'" + std::string(spelling) + "'";
  std::string_view rest = spelling;
  const MethodEntry& entry = find_entry(what, next_part(rest));
  Level level{.method = entry.row.method};
  if (!entry.row.parameter_name.empty()) parse_parameter(entry, next_part(rest), what, level);
  while (!rest.empty()) parse_setting(entry, next_part(rest), what, level);
  check_range(entry.row, level.parameter);
  return level;
}

std::string spell_parameter(const Level& level) {
  const MethodEntry& entry = entry_of(level.method);
  if (entry.parameter != nullptr) return entry.parameter->spell(level);
  return entry.row.parameter_name.empty() ? "" : spell_number(level.parameter);
}

std::string to_string(const Level& level) {
  const MethodEntry& entry = entry_of(level.method);
  std::string text(entry.row.name);
  if (!entry.row.parameter_name.empty()) text += ":" + spell_parameter(level);
  for (const Setting& setting : entry.settings) {
    const std::string value = setting.spell(level);
    if (value != setting.spell(Level{})) text += ":" + std::string(setting.key) + "=" + value;
  }
  return text;
}

// A setting is possible when its own spelling is.
void check(const Level& level) {
  const MethodEntry& entry = entry_of(level.method);
  check_range(entry.row, level.parameter);
  Level spelled = level;
  const auto check_setting = [&](const Setting& setting) {
    parse(setting, setting.spell(level), entry.row.name, spelled);
  };
  if (entry.parameter != nullptr) check_setting(*entry.parameter);
  for (const Setting& setting : entry.settings) check_setting(setting);
}

Level uncompressed(DType dtype) {
  if (dtype == DType::f32) return Level{};
  return Level{.method = Method::cast, .values = dtype};
}

Level resolve(const Level& level, const LayerSpec& layer) {
  Level resolved = level;
  return entry_of(level.method).suits(resolved, layer) ? resolved : uncompressed(layer.dtype);
}

std::vector<Level> neighbours(const Level& reference) {
  std::vector<Level> levels;
  entry_of(reference.method).neighbours(reference, levels);
  levels.push_back(Level{});
  return levels;
}

// The last of the table first: a planner that cannot tell two levels apart takes the earlier.
std::vector<Level> mixed_levels(const Level& reference) {
  std::vector<Level> levels;
  const std::span<const MethodRow> rows = method_table();
  for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
    const bool is_own = row->method == reference.method;
    entry_of(row->method).family(is_own ? reference : parse_level(row->example), levels);
  }
  levels.push_back(Level{});
  return levels;
}

std::size_t payload_bytes(const Level& level, const MatrixShape& shape) {
  if (is_coded(level.method)) return coded_compressor(level)->payload_bytes(shape.count());
  const auto compressor = linear_compressor(level);
  std::size_t floats = 0;
  for (int round = 0; round < compressor->rounds(); ++round) {
    floats += compressor->round_floats(shape, round);
  }
  return floats * size_of(level.factors);
}

bool is_worth_coding(Level& level, const LayerSpec& layer) {
  // Biases, norms and other short vectors: a fraction of a percent of the bytes, and sensitive.
  constexpr std::size_t kMinVectorCount = 4096;
  if (layer.shape.size() < 2 && layer.count() < kMinVectorCount) return false;
  return 2 * payload_bytes(level, layer.matrix()) <= layer.count() * size_of(layer.dtype);
}

void only_the_reference(const Level& reference, std::vector<Level>& levels) {
  levels.push_back(reference);
}

double nothing_more_to_measure(const MatrixShape&) { return 0; }

double payload_elements(const Level& level, const MatrixShape& shape) {
  return static_cast<double>(payload_bytes(level, shape)) / 4;
}

}  // namespace lgreco
