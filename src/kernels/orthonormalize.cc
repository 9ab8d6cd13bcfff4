#include <algorithm>
#include <cmath>
#include <span>

#include "src/kernels/elementwise.h"
#include "src/kernels/low_rank.h"

namespace lgreco::kernels {
namespace {

// What is left of a column, relative to its length, when it is only rounding of the earlier ones:
// an fp32 column has a relative precision of 6e-8.
constexpr double kDependent = 1e-6;

// Earlier columns that are taken out in one pass, with one rounding to fp32.
constexpr std::size_t kBlock = 8;

// Eight running sums, so that the order is fixed and the loop can be vectorised.
double dot(const float* a, const float* b, std::size_t count) {
  double sums[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) {
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    sums[lane] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

double length_of(std::span<const float> column) {
  return std::sqrt(dot(column.data(), column.data(), column.size()));
}

void multiply_by(double factor, std::span<float> column) {
  for (float& value : column) value = static_cast<float>(static_cast<double>(value) * factor);
}

// By a power of two to a magnitude near 1: in double, where any such power is a normal number.
void scale_to_one(std::span<float> column) {
  const float largest = max_magnitude(column.data(), column.size());
  if (largest != 0) multiply_by(std::ldexp(1.0, -std::ilogb(largest)), column);
}

// column -= earlier * (earlier^T column) for `count` <= kBlock earlier columns.
void take_out(const float* earlier, std::size_t count, std::span<float> column) {
  const std::size_t rows = column.size();
  double overlaps[kBlock] = {};
  for (std::size_t k = 0; k < count; ++k) {
    overlaps[k] = dot(earlier + k * rows, column.data(), rows);
  }
  for (std::size_t i = 0; i < rows; ++i) {
    double value = column[i];
    for (std::size_t k = 0; k < count; ++k) {
      value -= overlaps[k] * static_cast<double>(earlier[k * rows + i]);
    }
    column[i] = static_cast<float>(value);
  }
}

}  // namespace

void orthonormalize(float* left, std::size_t rows, std::size_t rank) {
  for (std::size_t k = 0; k < rank; ++k) {
    const std::span<float> column(left + k * rows, rows);
    scale_to_one(column);
    const double length_before = length_of(column);
    for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan; Parlett 1980)
      for (std::size_t j = 0; j < k; j += kBlock) {
        take_out(left + j * rows, std::min(kBlock, k - j), column);
      }
    }
    const double length = length_of(column);
    multiply_by(length > kDependent * length_before ? 1.0 / length : 0.0, column);
  }
}

}  // namespace lgreco::kernels
