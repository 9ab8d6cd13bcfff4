// What the fuzz targets share: reading the fuzzer's bytes, and failing.
//
// A target is one file with LLVMFuzzerTestOneInput. It asks for more than "no crash": what a
// decoder accepts must keep the decoder's promise. libFuzzer runs it (scripts/fuzz), and
// replay_main.cc runs it over the corpus in every build.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace lgreco::fuzz {

/// A broken promise is reported as a crash is.
inline void require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", promise);
  std::abort();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(std::as_bytes(std::span(data, size))) {}

  /// The next number; zeros follow the end.
  template <typename Number>
  Number take() {
    Number number{};
    const std::size_t bytes = std::min(rest_.size(), sizeof number);
    if (bytes > 0) std::memcpy(&number, rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
    return number;
  }

  /// All that is left, in memory of its own, so that AddressSanitizer sees every byte too many.
  std::vector<std::byte> rest() const { return {rest_.begin(), rest_.end()}; }
  /// The same cut or filled up to `bytes`.
  std::vector<std::byte> rest(std::size_t bytes) const {
    std::vector<std::byte> fitted = rest();
    fitted.resize(bytes);
    fitted.shrink_to_fit();
    return fitted;
  }
  /// `count` finite numbers.
  std::vector<float> floats(std::size_t count) const {
    const std::vector<std::byte> bytes = rest(count * sizeof(float));
    std::vector<float> values(count);
    if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    for (float& value : values) {
      if (!std::isfinite(value)) value = 0;
    }
    return values;
  }

 private:
  std::span<const std::byte> rest_;
};

inline bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace lgreco::fuzz
