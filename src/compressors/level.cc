#include "lgreco/level.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "lgreco/compressor.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

// Biases, norms and other short vectors: a fraction of a percent of the bytes, and sensitive.
constexpr std::size_t kMinVectorCount = 4096;

constexpr std::uint32_t kMostBucket = 1 << 24;

std::string buckets() { return "a multiple of 8 from 8 to " + std::to_string(kMostBucket); }

void check_dtype(const std::string& what, bool matters, DType dtype, DType impossible) {
  if (matters && dtype == impossible) {
    throw ConfigError("[level] " + what + ": " + std::string(name_of(dtype)) + " is not possible");
  }
}

[[noreturn]] void refuse(std::string_view spelling, const std::string& why) {
  throw ConfigError("[level] '" + std::string(spelling) + "': " + why);
}

std::string known_methods() {
  std::string list;
  for (const MethodRow& row : method_table()) {
    list += (list.empty() ? "" : ", ") + std::string(row.example);
  }
  return list;
}

std::string shortest(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

double parse_number(std::string_view spelling, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    refuse(spelling, "'" + std::string(text) + "' is not a number");
  }
  return value;
}

DType parse_dtype(std::string_view spelling, std::string_view text,
                  std::initializer_list<DType> allowed) {
  std::string names;
  for (DType dtype : allowed) {
    if (name_of(dtype) == text) return dtype;
    names += (names.empty() ? "" : " or ") + std::string(name_of(dtype));
  }
  refuse(spelling, "'" + std::string(text) + "' is not a type here; use " + names);
}

std::uint32_t parse_bucket(std::string_view spelling, std::string_view text) {
  const double bucket = parse_number(spelling, text);
  if (bucket < 0 || bucket > kMostBucket || bucket != std::floor(bucket)) {
    refuse(spelling, "bucket must be " + buckets());
  }
  return static_cast<std::uint32_t>(bucket);
}

void parse_setting(std::string_view spelling, std::string_view key, std::string_view value,
                   Level& level) {
  if (level.method == Method::quantize && key == "bucket") {
    level.bucket = parse_bucket(spelling, value);
  } else if (level.method == Method::quantize && key == "rounding") {
    if (value != "nearest" && value != "stochastic") {
      refuse(spelling, "rounding is nearest or stochastic");
    }
    level.rounding = value == "nearest" ? Rounding::nearest : Rounding::stochastic;
  } else if (level.method == Method::topk && key == "values") {
    level.values = parse_dtype(spelling, value, {DType::bf16, DType::f32});
  } else if (level.method == Method::low_rank && key == "min_ratio") {
    level.min_ratio = parse_number(spelling, value);
  } else if (level.method == Method::low_rank && key == "factors") {
    level.factors = parse_dtype(spelling, value, {DType::f32, DType::bf16});
  } else {
    refuse(spelling, "'" + std::string(key) + "' is no setting of this method");
  }
}

std::string_view next_part(std::string_view& rest) {
  const std::size_t colon = rest.find(':');
  const std::string_view part = rest.substr(0, colon);
  rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
  return part;
}

const MethodRow& find_row(std::string_view spelling, std::string_view name) {
  for (const MethodRow& row : method_table()) {
    if (row.name == name) return row;
  }
  refuse(spelling, "unknown method '" + std::string(name) + "'; known are " + known_methods());
}

bool worth_coding(const Level& level, const LayerSpec& layer) {
  if (layer.shape.size() < 2 && layer.count() < kMinVectorCount) return false;
  return 2 * payload_bytes(level, layer.matrix()) <= layer.count() * size_of(layer.dtype);
}

Level dense_for(DType dtype) {
  if (dtype == DType::f32) return Level{};
  return Level{.method = Method::cast, .values = dtype};
}

}  // namespace

Level parse_level(std::string_view spelling) {
  std::string_view rest = spelling;
  const MethodRow& row = find_row(spelling, next_part(rest));
  Level level{.method = row.method};
  if (!row.parameter_name.empty()) {
    const std::string_view parameter = next_part(rest);
    if (parameter.empty()) {
      refuse(spelling, "the " + std::string(row.parameter_name) + " is missing, as in " +
                           std::string(row.example));
    }
    if (row.method == Method::cast) {
      level.values = parse_dtype(spelling, parameter, {DType::bf16, DType::f16});
    } else {
      level.parameter = parse_number(spelling, parameter);
    }
  }
  while (!rest.empty()) {
    const std::string_view setting = next_part(rest);
    const std::size_t equals = setting.find('=');
    if (equals == std::string_view::npos) {
      refuse(spelling, "'" + std::string(setting) + "' is not of the form key=value");
    }
    parse_setting(spelling, setting.substr(0, equals), setting.substr(equals + 1), level);
  }
  check(level);
  return level;
}

std::string to_string(const Level& level) {
  const Level defaults{};
  std::string text(row_of(level.method).name);
  switch (level.method) {
    case Method::dense:
      break;
    case Method::cast:
      text += ":" + std::string(name_of(level.values));
      break;
    case Method::quantize:
      text += ":" + shortest(level.parameter);
      if (level.bucket != defaults.bucket) text += ":bucket=" + std::to_string(level.bucket);
      if (level.rounding != defaults.rounding) text += ":rounding=nearest";
      break;
    case Method::topk:
      text += ":" + shortest(level.parameter);
      if (level.values != defaults.values) text += ":values=" + std::string(name_of(level.values));
      break;
    case Method::low_rank:
      text += ":" + shortest(level.parameter);
      if (level.min_ratio != defaults.min_ratio) text += ":min_ratio=" + shortest(level.min_ratio);
      if (level.factors != defaults.factors) {
        text += ":factors=" + std::string(name_of(level.factors));
      }
      break;
  }
  return text;
}

void check(const Level& level) {
  const MethodRow& row = row_of(level.method);
  const double value = level.parameter;
  const bool in_range = value >= row.min_parameter && value <= row.max_parameter;
  if (!in_range || (row.integer_parameter && value != std::floor(value))) {
    throw ConfigError("[level] " + std::string(row.name) + ": " + std::string(row.parameter_name) +
                      " " + shortest(value) + " is out of range; it must be " +
                      (row.integer_parameter ? "a whole number " : "") + "from " +
                      shortest(row.min_parameter) + " to " + shortest(row.max_parameter));
  }
  if (level.bucket < 8 || level.bucket > kMostBucket || level.bucket % 8 != 0) {
    throw ConfigError("[level] quantize: bucket " + std::to_string(level.bucket) + " must be " +
                      buckets());
  }
  check_dtype("cast", level.method == Method::cast, level.values, DType::f32);
  check_dtype("topk: values", level.method == Method::topk, level.values, DType::f16);
  check_dtype("low_rank: factors", level.method == Method::low_rank, level.factors, DType::f16);
  if (!(level.min_ratio > 0) || !std::isfinite(level.min_ratio)) {
    throw ConfigError("[level] low_rank: min_ratio must be positive and finite");
  }
}

Level resolve(const Level& level, const LayerSpec& layer) {
  const MatrixShape shape = layer.matrix();
  switch (level.method) {
    case Method::dense:
      return dense_for(layer.dtype);
    case Method::cast:
      return layer.dtype == DType::f32 ? level : dense_for(layer.dtype);
    case Method::quantize:
    case Method::topk:
      return worth_coding(level, layer) ? level : dense_for(layer.dtype);
    case Method::low_rank: {
      Level clipped = level;
      clipped.parameter =
          std::min<double>(level.parameter, static_cast<double>(std::min(shape.rows, shape.cols)));
      const double factors = static_cast<double>(shape.rows + shape.cols) * clipped.parameter;
      const bool takes_part = level.min_ratio * factors < static_cast<double>(shape.count());
      return layer.shape.size() >= 2 && takes_part ? clipped : dense_for(layer.dtype);
    }
  }
  return level;
}

std::vector<Level> neighbours(const Level& reference) {
  std::vector<Level> levels;
  Level level = reference;
  const auto whole_numbers = [&](double first, double last) {
    for (level.parameter = first; level.parameter <= last; ++level.parameter) {
      levels.push_back(level);
    }
  };
  switch (reference.method) {
    case Method::dense:
      break;
    case Method::cast:
      levels.push_back(reference);
      break;
    case Method::quantize:
      whole_numbers(std::max(1.0, std::floor(reference.parameter / 2)),
                    std::min(8.0, 2 * reference.parameter));
      break;
    case Method::topk:
      for (int k = -4; k <= 4; ++k) {
        level.parameter = reference.parameter * std::exp2(k / 2.0);
        if (level.parameter >= row_of(Method::topk).min_parameter && level.parameter <= 1) {
          levels.push_back(level);
        }
      }
      break;
    case Method::low_rank:
      whole_numbers(std::ceil(reference.parameter / 2), 2 * reference.parameter);
      break;
  }
  levels.push_back(Level{});
  return levels;
}

std::vector<Level> mixed_levels(const Level& reference) {
  constexpr double kDensities[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5};
  constexpr double kManyRanks = 64;  // one measures them at once, but the planner weighs each
  const auto of_family = [&](Method method) {
    return reference.method == method ? reference : Level{.method = method};
  };
  std::vector<Level> levels;
  Level level = of_family(Method::low_rank);
  const double rank = reference.method == Method::low_rank ? reference.parameter : 4;
  const double largest = std::min(4 * rank, std::max(rank, kManyRanks));
  for (level.parameter = 1; level.parameter <= largest; ++level.parameter) levels.push_back(level);
  level = of_family(Method::quantize);
  for (level.parameter = 1; level.parameter <= 8; ++level.parameter) levels.push_back(level);
  level = of_family(Method::topk);
  for (double density : kDensities) {
    level.parameter = density;
    levels.push_back(level);
  }
  levels.push_back({.method = Method::cast, .values = DType::bf16});
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

}  // namespace lgreco
