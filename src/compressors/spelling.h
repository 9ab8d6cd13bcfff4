// Values as they are spelled in a level: the halves of Setting::spell and Setting::parse.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lgreco/level.h"

namespace lgreco {

/// The shortest text that parses to the same number.
inline std::string spell_number(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

/// Nothing when `text` is no number, or one that is not finite.
inline std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

template <DType Level::*kMember>
std::string spell_dtype(const Level& level) {
  return std::string(name_of(level.*kMember));
}

template <DType Level::*kMember, DType... kAllowed>
bool parse_dtype(std::string_view text, Level& level) {
  for (const DType dtype : {kAllowed...}) {
    if (name_of(dtype) != text) continue;
    level.*kMember = dtype;
    return true;
  }
  return false;
}

/// Nothing when `text` is no number of bits for a value that comes with a scale.
inline std::optional<std::uint8_t> parse_bits(std::string_view text) {
  const auto bits = parse_number(text);
  if (!bits || *bits < 2 || *bits > 8 || *bits != std::floor(*bits)) return {};
  return static_cast<std::uint8_t>(*bits);
}

/// Levels whose parameters are the level's times 2^(k/2), k = -4..4, as far as they are possible.
inline void append_half_octaves(Level level, double least, double most,
                                std::vector<Level>& levels) {
  const double middle = level.parameter;
  for (int k = -4; k <= 4; ++k) {
    level.parameter = middle * std::exp2(k / 2.0);
    if (level.parameter >= least && level.parameter <= most) levels.push_back(level);
  }
}

/// Levels that differ from `level` in a whole parameter from `first` to `last`.
inline void append_whole_numbers(Level level, double first, double last,
                                 std::vector<Level>& levels) {
  for (level.parameter = first; level.parameter <= last; ++level.parameter) levels.push_back(level);
}

}  // namespace lgreco
