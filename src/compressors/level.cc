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

void check_range(const MethodRow& row, double value) {
  const bool in_range = value >= row.min_parameter && value <= row.max_parameter;
  if (in_range && !(row.integer_parameter && value != std::floor(value))) return;
  refuse(row.name, std::string(row.parameter_name) + " " + spell_number(value) +
                       " is out of range; it must be " +
                       (row.integer_parameter ? "a whole number " : "") + "from " +
                       spell_number(row.min_parameter) + " to " + spell_number(row.max_parameter));
}

// Of the plus before it, which is none of an exponent.
std::size_t place_of_second(std::string_view text) {
  std::size_t plus = text.find('+');
  while (plus != std::string_view::npos && plus > 0 && text[plus - 1] == 'e') {
    plus = text.find('+', plus + 1);
  }
  return plus;
}

double number_of(std::string_view text, std::string_view what) {
  if (const auto number = parse_number(text)) return *number;
  refuse(what, "'" + std::string(text) + "' is not a number");
}

void parse_parameter(const MethodEntry& entry, std::string_view text, std::string_view what,
                     Level& level) {
  if (text.empty()) {
    refuse(what, "the " + std::string(entry.row.parameter_name) + " is missing, as in " +
                     std::string(entry.row.example));
  }
  if (entry.parameter != nullptr) {
    parse(*entry.parameter, text, what, level);
    return;
  }
  const std::size_t plus = place_of_second(text);
  level.parameter = number_of(text.substr(0, plus), what);
  if (plus == std::string_view::npos) return;
  if (!entry.row.coded) refuse(what, "this method has one encoding, and so one parameter");
  const double gather = number_of(text.substr(plus + 1), what);
  check_range(entry.row, gather);
  if (gather == 0) refuse(what, "0 cannot be the parameter of the second encoding");
  if (gather != level.parameter) level.gather_parameter = gather;
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

bool has_gather(const Level& level) { return level.gather_parameter != 0; }

// Levels of the reference's method get a second parameter that is to the first as the reference's
// is.
void keep_ratio(const Level& reference, std::vector<Level>& levels) {
  if (!has_gather(reference)) return;
  const MethodRow& row = row_of(reference.method);
  for (Level& level : levels) {
    if (level.method != reference.method || level.parameter == 0) continue;
    double gather = level.parameter == reference.parameter
                        ? reference.gather_parameter
                        : level.parameter * (reference.gather_parameter / reference.parameter);
    if (row.integer_parameter) gather = std::round(gather);
    gather = std::clamp(gather, row.min_parameter, row.max_parameter);
    level.gather_parameter = gather == level.parameter ? 0 : gather;
  }
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
  if (entry.row.parameter_name.empty()) return "";
  const std::string first = spell_number(level.parameter);
  return has_gather(level) ? first + "+" + spell_number(level.gather_parameter) : first;
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
  if (has_gather(level)) {
    check_range(entry.row, level.gather_parameter);
    if (!entry.row.coded || entry.parameter != nullptr) {
      refuse(entry.row.name, "this method has one encoding, and so one parameter");
    }
    if (level.gather_parameter == level.parameter) {
      refuse(entry.row.name,
             "the parameter of the second encoding is that of the first: leave it 0");
    }
  }
  Level spelled = level;
  const auto check_setting = [&](const Setting& setting) {
    parse(setting, setting.spell(level), entry.row.name, spelled);
  };
  if (entry.parameter != nullptr) check_setting(*entry.parameter);
  for (const Setting& setting : entry.settings) check_setting(setting);
}

Level scatter_level(const Level& level) {
  Level scatter = level;
  scatter.gather_parameter = 0;
  return scatter;
}

Level gather_level(const Level& level) {
  Level gather = scatter_level(level);
  if (has_gather(level)) gather.parameter = level.gather_parameter;
  return gather;
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
  entry_of(reference.method).neighbours(scatter_level(reference), levels);
  keep_ratio(reference, levels);
  levels.push_back(Level{});
  return levels;
}

// The last of the table first: a planner that cannot tell two levels apart takes the earlier.
std::vector<Level> mixed_levels(const Level& reference) {
  std::vector<Level> levels;
  const std::span<const MethodRow> rows = method_table();
  for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
    const bool is_own = row->method == reference.method;
    std::vector<Level> family;
    const Level base = is_own ? scatter_level(reference) : parse_level(row->example);
    entry_of(row->method).family(base, family);
    if (is_own) keep_ratio(reference, family);
    levels.insert(levels.end(), family.begin(), family.end());
  }
  levels.push_back(Level{});
  return levels;
}

std::size_t payload_bytes(const Level& level, const MatrixShape& shape) {
  if (is_coded(level.method)) {
    const std::size_t bytes = coded_compressor(scatter_level(level))->payload_bytes(shape.count());
    if (!has_gather(level)) return bytes;
    return (bytes + coded_compressor(gather_level(level))->payload_bytes(shape.count()) + 1) / 2;
  }
  const auto compressor = linear_compressor(level);
  std::size_t bytes = 0;
  for (int round = 0; round < compressor->rounds(); ++round) {
    bytes +=
        factor_codec(level, shape, round)->payload_bytes(compressor->round_floats(shape, round));
  }
  return bytes;
}

bool is_worth_coding(Level& level, const LayerSpec& layer) {
  // Biases, norms and other short vectors: a fraction of a percent of the bytes, and sensitive.
  constexpr std::size_t kMinVectorCount = 4096;
  if (layer.shape.size() < 2 && layer.count() < kMinVectorCount) return false;
  return is_small_enough(level, layer);
}

bool is_small_enough(const Level& level, const LayerSpec& layer) {
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
