// Element types of gradients and of values on the wire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lgreco {

enum class DType : std::uint8_t { f32 = 0, bf16 = 1, f16 = 2 };

constexpr std::size_t size_of(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

/// "fp32", "bf16", "fp16": the spelling in levels, docs and the command line.
constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "fp32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "fp16";
  }
  return "";
}

}  // namespace lgreco
