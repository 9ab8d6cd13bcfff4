// Memory-bound passes over arrays. Arrays may be equal but must not overlap partly.
#pragma once

#include <cstddef>

namespace lgreco::kernels {

void add(const float* a, const float* b, std::size_t count, float* out);  // out = a + b
/// The same; false when a sum is not finite.
bool add_finite(const float* a, const float* b, std::size_t count, float* out);
void subtract(const float* a, const float* b, std::size_t count, float* out);  // out = a - b
void scale(const float* a, float factor, std::size_t count, float* out);       // out = a * factor

/// True when no value is NaN or infinite.
bool all_finite(const float* values, std::size_t count);
/// values += addend (nullptr: nothing); false when a sum is not finite.
inline bool add_addend(const float* addend, std::size_t count, float* values) {
  return addend == nullptr ? all_finite(values, count) : add_finite(values, addend, count, values);
}
/// sum += values; false when a value is not finite.
inline bool accumulate(const float* values, std::size_t count, float* sum) {
  // A sum that is finite has finite parts; one that is not may have overflowed.
  return add_finite(sum, values, count, sum) || all_finite(values, count);
}
/// Largest magnitude; 0 for no values. REQUIRES: no NaN.
float max_magnitude(const float* values, std::size_t count);
/// Sum of squares in double, in an order that depends on `count` alone: 16 running sums (value i
/// goes to sum i mod 16), folded pairwise in halves.
double sum_squares(const float* values, std::size_t count);

}  // namespace lgreco::kernels
