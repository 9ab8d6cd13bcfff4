#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "src/kernels/elementwise.h"
#include "src/kernels/low_rank.h"

namespace lgreco::kernels {
namespace {

// What is left of a column, relative to its length, when it is only rounding of the earlier ones:
// an fp32 column has a relative precision of 6e-8.
constexpr double kDependent = 1e-6;

// Eight running sums, so that the order is fixed and the loop can be vectorised.
double dot(std::span<const double> a, std::span<const double> b) {
  double sums[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= a.size(); i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (std::size_t lane = 0; i < a.size(); ++i, ++lane) sums[lane] += a[i] * b[i];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// The column in double, scaled by a power of two to a magnitude near 1.
void load_scaled(const float* column, std::span<double> out) {
  const float largest = max_magnitude(column, out.size());
  const int exponent = largest == 0 ? 0 : std::ilogb(largest);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = std::ldexp(static_cast<double>(column[i]), -exponent);
  }
}

}  // namespace

void orthonormalize(float* left, std::size_t rows, std::size_t rank) {
  std::vector<double> columns(rows * rank);
  const auto column = [&](std::size_t k) {
    return std::span<double>(columns).subspan(k * rows, rows);
  };
  for (std::size_t k = 0; k < rank; ++k) {
    const std::span<double> current = column(k);
    load_scaled(left + k * rows, current);
    const double length_before = std::sqrt(dot(current, current));
    for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan; Parlett 1980)
      for (std::size_t j = 0; j < k; ++j) {
        const std::span<const double> earlier = column(j);
        const double overlap = dot(earlier, current);
        for (std::size_t i = 0; i < rows; ++i) current[i] -= overlap * earlier[i];
      }
    }
    const double length = std::sqrt(dot(current, current));
    const double factor = length > kDependent * length_before ? 1.0 / length : 0.0;
    for (std::size_t i = 0; i < rows; ++i) {
      current[i] *= factor;
      left[k * rows + i] = static_cast<float>(current[i]);
    }
  }
}

}  // namespace lgreco::kernels
