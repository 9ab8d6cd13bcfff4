#include "src/engine/residual.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "src/base/random.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

// Random bits are added below the mantissa that is kept; a carry rounds up.
std::uint16_t round_stochastically(float value, const RandomStream& stream, std::uint32_t index) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + (random_bits(stream, index) & 0xFFFFu);
  const bool overflows = (rounded & 0x7F800000u) == 0x7F800000u;
  return static_cast<std::uint16_t>((overflows ? bits : rounded) >> 16);
}

}  // namespace

void Residual::clear() {
  std::vector<float>().swap(floats_);
  std::vector<std::uint16_t>().swap(halves_);
}

bool Residual::clear_beyond(float largest) {
  if (max_magnitude() <= largest) return false;
  clear();
  return true;
}

void Residual::reserve(std::size_t count) {
  dtype_ == DType::f32 ? floats_.reserve(count) : halves_.reserve(count);
}

void Residual::add_to(std::span<float> values) const {
  if (!floats_.empty()) {
    kernels::add(values.data(), floats_.data(), values.size(), values.data());
  }
  for (std::size_t i = 0; i < halves_.size(); ++i) values[i] += kernels::bf16_value(halves_[i]);
}

void Residual::keep(std::span<const float> values, const RandomKey& key) {
  if (dtype_ == DType::f32) {
    floats_.assign(values.begin(), values.end());
    return;
  }
  const RandomStream stream = stream_of({key.seed ^ 0x7265736964ull, key.step, key.layer});
  halves_.resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    halves_[i] = round_stochastically(values[i], stream, static_cast<std::uint32_t>(i));
  }
}

std::span<float> Residual::overwrite(std::size_t count) {
  if (dtype_ != DType::f32) return {};
  floats_.resize(count);
  return floats_;
}

void Residual::scale(float factor) {
  kernels::scale(floats_.data(), factor, floats_.size(), floats_.data());
  for (std::uint16_t& half : halves_) {
    const float scaled = kernels::bf16_value(half) * factor;
    kernels::to_bf16(&scaled, 1, &half);
  }
}

double Residual::sum_squares() const {
  if (halves_.empty()) return kernels::sum_squares(floats_.data(), floats_.size());
  double sum = 0;
  for (std::uint16_t half : halves_) {
    const double value = kernels::bf16_value(half);
    sum += value * value;
  }
  return sum;
}

float Residual::max_magnitude() const {
  float largest = kernels::max_magnitude(floats_.data(), floats_.size());
  for (const std::uint16_t half : halves_) {
    largest = std::max(largest, std::abs(kernels::bf16_value(half)));
  }
  return largest;
}

std::vector<float> Residual::to_floats() const {
  if (halves_.empty()) return floats_;
  std::vector<float> values(halves_.size());
  kernels::from_bf16(halves_.data(), halves_.size(), values.data());
  return values;
}

void Residual::assign(std::span<const float> values) {
  clear();
  if (dtype_ == DType::f32) {
    floats_.assign(values.begin(), values.end());
  } else {
    halves_.resize(values.size());
    kernels::to_bf16(values.data(), values.size(), halves_.data());
  }
}

}  // namespace lgreco
