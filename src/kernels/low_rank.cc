#include "src/kernels/low_rank.h"

#include <algorithm>

#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/low_rank.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A block of columns of the factors is handled at once, so that the matrix is read once per block.
constexpr std::size_t kColumns = 4;

using Sixteen = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Sixteen>;
constexpr std::size_t kLanes = hn::MaxLanes(Sixteen());
constexpr std::size_t kVectors = 16 / kLanes;

float Fold(const Vector (&sums)[kVectors], const float* row, const float* right, std::size_t rest) {
  float lanes[16];
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], Sixteen(), lanes + v * kLanes);
  for (std::size_t lane = 0; lane < rest; ++lane) lanes[lane] += row[lane] * right[lane];
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

// kRows rows by kCount columns.
template <std::size_t kRows, std::size_t kCount>
void MultiplyRows(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
                  float* left) {
  const Sixteen d;
  const std::size_t whole = cols / 16 * 16;
  Vector sums[kRows][kCount][kVectors];
  for (auto& row : sums) {
    for (auto& column : row) {
      for (Vector& sum : column) sum = hn::Zero(d);
    }
  }
  for (std::size_t j = 0; j < whole; j += 16) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::size_t at = j + v * kLanes;
      Vector values[kRows];
      for (std::size_t i = 0; i < kRows; ++i) values[i] = hn::LoadU(d, matrix + i * cols + at);
      for (std::size_t k = 0; k < kCount; ++k) {
        const Vector factor = hn::LoadU(d, right + k * cols + at);
        for (std::size_t i = 0; i < kRows; ++i) {
          sums[i][k][v] = hn::Add(sums[i][k][v], hn::Mul(values[i], factor));
        }
      }
    }
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    const float* rest = matrix + i * cols + whole;
    for (std::size_t k = 0; k < kCount; ++k) {
      left[k * rows + i] = Fold(sums[i][k], rest, right + k * cols + whole, cols - whole);
    }
  }
}

template <std::size_t kCount>
void MultiplyColumns(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
                     float* left) {
  constexpr std::size_t kRows = kVectors == 1 ? 4 : 1;  // as far as registers hold the sums
  std::size_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    MultiplyRows<kRows, kCount>(matrix + i * cols, rows, cols, right, left + i);
  }
  for (; i < rows; ++i) {
    MultiplyRows<1, kCount>(matrix + i * cols, rows, cols, right, left + i);
  }
}

void Multiply(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
              std::size_t rank, float* left) {
  std::size_t k = 0;
  for (; k + kColumns <= rank; k += kColumns) {
    MultiplyColumns<kColumns>(matrix, rows, cols, right + k * cols, left + k * rows);
  }
  for (; k < rank; ++k) {
    MultiplyColumns<1>(matrix, rows, cols, right + k * cols, left + k * rows);
  }
}

// right[k][j] += matrix[i][j] * left[k][i] for kRows rows in ascending order and kCount columns.
template <std::size_t kRows, std::size_t kCount>
void AddRows(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
             float* right) {
  const hn::ScalableTag<float> d;
  std::size_t j = 0;
  for (; j + hn::Lanes(d) <= cols; j += hn::Lanes(d)) {
    hn::Vec<decltype(d)> sums[kCount];
    for (std::size_t k = 0; k < kCount; ++k) sums[k] = hn::LoadU(d, right + k * cols + j);
    for (std::size_t i = 0; i < kRows; ++i) {
      const auto value = hn::LoadU(d, matrix + i * cols + j);
      for (std::size_t k = 0; k < kCount; ++k) {
        sums[k] = hn::Add(sums[k], hn::Mul(value, hn::Set(d, left[k * rows + i])));
      }
    }
    for (std::size_t k = 0; k < kCount; ++k) hn::StoreU(sums[k], d, right + k * cols + j);
  }
  for (; j < cols; ++j) {
    for (std::size_t k = 0; k < kCount; ++k) {
      for (std::size_t i = 0; i < kRows; ++i) {
        right[k * cols + j] += matrix[i * cols + j] * left[k * rows + i];
      }
    }
  }
}

template <std::size_t kRows>
void AddRowsToAll(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                  std::size_t rank, float* right) {
  std::size_t k = 0;
  for (; k + kColumns <= rank; k += kColumns) {
    AddRows<kRows, kColumns>(matrix, rows, cols, left + k * rows, right + k * cols);
  }
  for (; k < rank; ++k) {
    AddRows<kRows, 1>(matrix, rows, cols, left + k * rows, right + k * cols);
  }
}

void MultiplyTransposed(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                        std::size_t rank, float* right) {
  constexpr std::size_t kRows = 8;  // rows that stay in the cache while the columns pass
  std::fill_n(right, rank * cols, 0.0f);
  std::size_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    AddRowsToAll<kRows>(matrix + i * cols, rows, cols, left + i, rank, right);
  }
  for (; i < rows; ++i) AddRowsToAll<1>(matrix + i * cols, rows, cols, left + i, rank, right);
}

// out (+)= sum over kCount columns of left[k][row] * right[k][j]; kFirst starts from the product.
template <std::size_t kCount, bool kFirst>
void AddColumns(const float* left, std::size_t rows, const float* right, std::size_t cols,
                float* out) {
  const hn::ScalableTag<float> d;
  std::size_t j = 0;
  for (; j + hn::Lanes(d) <= cols; j += hn::Lanes(d)) {
    const auto product = [&](std::size_t k) HWY_ATTR {
      return hn::Mul(hn::Set(d, left[k * rows]), hn::LoadU(d, right + k * cols + j));
    };
    auto sum = kFirst ? product(0) : hn::Add(hn::LoadU(d, out + j), product(0));
    for (std::size_t k = 1; k < kCount; ++k) sum = hn::Add(sum, product(k));
    hn::StoreU(sum, d, out + j);
  }
  for (; j < cols; ++j) {
    float sum = left[0] * right[j];
    if (!kFirst) sum = out[j] + sum;
    for (std::size_t k = 1; k < kCount; ++k) sum += left[k * rows] * right[k * cols + j];
    out[j] = sum;
  }
}

void Reconstruct(const float* left, const float* right, std::size_t rows, std::size_t cols,
                 std::size_t rank, float* matrix) {
  for (std::size_t i = 0; i < rows; ++i) {
    float* out = matrix + i * cols;
    std::size_t k = 0;
    if (rank >= kColumns) {
      AddColumns<kColumns, true>(left + i, rows, right, cols, out);
      k = kColumns;
    } else {
      AddColumns<1, true>(left + i, rows, right, cols, out);
      k = 1;
    }
    for (; k + kColumns <= rank; k += kColumns) {
      AddColumns<kColumns, false>(left + k * rows + i, rows, right + k * cols, cols, out);
    }
    for (; k < rank; ++k) {
      AddColumns<1, false>(left + k * rows + i, rows, right + k * cols, cols, out);
    }
  }
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(Multiply);
HWY_EXPORT(MultiplyTransposed);
HWY_EXPORT(Reconstruct);

void multiply(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
              std::size_t rank, float* left) {
  HWY_DYNAMIC_DISPATCH(Multiply)(matrix, rows, cols, right, rank, left);
}
void multiply_transposed(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                         std::size_t rank, float* right) {
  HWY_DYNAMIC_DISPATCH(MultiplyTransposed)(matrix, rows, cols, left, rank, right);
}
void reconstruct(const float* left, const float* right, std::size_t rows, std::size_t cols,
                 std::size_t rank, float* matrix) {
  HWY_DYNAMIC_DISPATCH(Reconstruct)(left, right, rows, cols, rank, matrix);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
