#include "src/kernels/low_rank.h"

#include <algorithm>

#include "hwy/cache_control.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/low_rank.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Sixteen = hn::CappedTag<float, 16>;
constexpr std::size_t kLanes = hn::MaxLanes(Sixteen());
constexpr std::size_t kVectors = 16 / kLanes;

#if HWY_TARGET == HWY_SCALAR  // which has no halves
HWY_INLINE float FoldLanes(Sixteen, hn::Vec<Sixteen> sums) { return hn::GetLane(sums); }
#else
template <class D>
HWY_INLINE float FoldLanes(D d, hn::Vec<D> sums) {
  if constexpr (hn::MaxLanes(d) == 1) {
    return hn::GetLane(sums);
  } else {
    const hn::Half<D> half;
    return FoldLanes(half, hn::Add(hn::LowerHalf(half, sums), hn::UpperHalf(half, sums)));
  }
}
#endif

HWY_INLINE float Fold(hn::Vec<Sixteen> (&sums)[kVectors]) {
  for (std::size_t half = kVectors / 2; half > 0; half /= 2) {
    for (std::size_t v = 0; v < half; ++v) sums[v] = hn::Add(sums[v], sums[v + half]);
  }
  return FoldLanes(Sixteen(), sums[0]);
}

// kRows rows by kCount columns.
template <std::size_t kRows, std::size_t kCount>
void MultiplyRows(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
                  float* left) {
  const Sixteen d;
  hn::Vec<Sixteen> sums[kRows][kCount][kVectors];
  for (auto& row : sums) {
    for (auto& column : row) {
      for (auto& sum : column) sum = hn::Zero(d);
    }
  }
  std::size_t j = 0;
  for (; j + 16 <= cols; j += 16) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::size_t at = j + v * kLanes;
      hn::Vec<Sixteen> values[kRows];
      for (std::size_t i = 0; i < kRows; ++i) values[i] = hn::LoadU(d, matrix + i * cols + at);
      for (std::size_t k = 0; k < kCount; ++k) {
        const auto factor = hn::LoadU(d, right + k * cols + at);
        for (std::size_t i = 0; i < kRows; ++i) {
          sums[i][k][v] = hn::Add(sums[i][k][v], hn::Mul(values[i], factor));
        }
      }
    }
  }
  if (j < cols) {
    // What is beyond the rows is zero, which changes no sum.
    float values[kRows][16] = {}, factor[16] = {};
    for (std::size_t i = 0; i < kRows; ++i) {
      std::copy_n(matrix + i * cols + j, cols - j, values[i]);
    }
    for (std::size_t k = 0; k < kCount; ++k) {
      std::copy_n(right + k * cols + j, cols - j, factor);
      for (std::size_t i = 0; i < kRows; ++i) {
        for (std::size_t v = 0; v < kVectors; ++v) {
          const auto product =
              hn::Mul(hn::LoadU(d, values[i] + v * kLanes), hn::LoadU(d, factor + v * kLanes));
          sums[i][k][v] = hn::Add(sums[i][k][v], product);
        }
      }
    }
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t k = 0; k < kCount; ++k) left[k * rows + i] = Fold(sums[i][k]);
  }
}

// Rows times columns, and columns alone, as far as registers hold the sums.
constexpr std::size_t kMostSums = kVectors == 1 ? 24 : 4;
constexpr std::size_t kMostColumns = kVectors == 1 ? 6 : 4;

// `count` of the `rows` rows by `columns` <= kCount columns.
template <std::size_t kCount = kMostColumns>
void MultiplyColumns(std::size_t count, const float* matrix, std::size_t rows, std::size_t cols,
                     const float* right, std::size_t columns, float* left) {
  if constexpr (kCount > 1) {
    if (columns < kCount) {
      MultiplyColumns<kCount - 1>(count, matrix, rows, cols, right, columns, left);
      return;
    }
  }
  constexpr std::size_t kRows = std::min<std::size_t>(4, kMostSums / kCount);
  std::size_t i = 0;
  for (; i + kRows <= count; i += kRows) {
    MultiplyRows<kRows, kCount>(matrix + i * cols, rows, cols, right, left + i);
  }
  for (; i < count; ++i) {
    MultiplyRows<1, kCount>(matrix + i * cols, rows, cols, right, left + i);
  }
}

// Block by block: get_rows(i, count), and multiply these `count` rows from row i on, which the
// cache holds then, however many columns there are.
template <class GetRows>
HWY_INLINE void MultiplyBlocks(const float* matrix, std::size_t rows, std::size_t cols,
                               const float* right, std::size_t rank, float* left,
                               const GetRows& get_rows) {
  constexpr std::size_t kBlock = 32'768;  // values: 128 KiB
  const std::size_t fit = kBlock / std::max<std::size_t>(1, cols);
  const std::size_t most = std::max<std::size_t>(4, fit / 4 * 4);
  const std::size_t columns = hwy::DivCeil(rank, hwy::DivCeil(rank, kMostColumns));
  for (std::size_t i = 0; i < rows; i += most) {
    const std::size_t count = std::min(most, rows - i);
    get_rows(i, count);
    for (std::size_t k = 0; k < rank; k += columns) {
      MultiplyColumns(count, matrix + i * cols, rows, cols, right + k * cols,
                      std::min(columns, rank - k), left + k * rows + i);
    }
  }
}

void Multiply(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
              std::size_t rank, float* left) {
  MultiplyBlocks(matrix, rows, cols, right, rank, left, [](std::size_t, std::size_t) {});
}

void AddAndMultiply(const float* addend, std::size_t rows, std::size_t cols, const float* right,
                    std::size_t rank, float* matrix, float* left) {
  MultiplyBlocks(matrix, rows, cols, right, rank, left, [&](std::size_t i, std::size_t count) {
    add(matrix + i * cols, addend + i * cols, count * cols, matrix + i * cols);
  });
}

// right[k][j] += matrix[i][j] * left[k][i] for kRows rows in ascending order.
template <std::size_t kRows>
void AddRows(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
             std::size_t rank, float* right) {
  const Floats d;
  std::size_t j = 0;
  for (; j + hn::Lanes(d) <= cols; j += hn::Lanes(d)) {
    hn::Vec<Floats> values[kRows];
    for (std::size_t i = 0; i < kRows; ++i) values[i] = hn::LoadU(d, matrix + i * cols + j);
    for (std::size_t k = 0; k < rank; ++k) {
      auto sum = hn::LoadU(d, right + k * cols + j);
      for (std::size_t i = 0; i < kRows; ++i) {
        sum = hn::Add(sum, hn::Mul(values[i], hn::Set(d, left[k * rows + i])));
      }
      hn::StoreU(sum, d, right + k * cols + j);
    }
  }
  for (; j < cols; ++j) {
    for (std::size_t k = 0; k < rank; ++k) {
      for (std::size_t i = 0; i < kRows; ++i) {
        right[k * cols + j] += matrix[i * cols + j] * left[k * rows + i];
      }
    }
  }
}

void MultiplyTransposed(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                        std::size_t rank, float* right) {
  constexpr std::size_t kRows = 8;  // of which registers hold a vector each
  std::fill_n(right, rank * cols, 0.0f);
  std::size_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    AddRows<kRows>(matrix + i * cols, rows, cols, left + i, rank, right);
  }
  for (; i < rows; ++i) AddRows<1>(matrix + i * cols, rows, cols, left + i, rank, right);
}

constexpr std::size_t kAhead = 64;  // values, also of the next row

// What ReconstructRows() makes besides left * right^T.
enum class Loss { none, of_right, of_own };

// kRows rows of left * factors^T, from column j on.
template <std::size_t kRows, typename D>
HWY_INLINE void ProductsAt(D d, const float* left, std::size_t rows, const float* factors,
                           std::size_t cols, std::size_t rank, std::size_t j,
                           hn::Vec<D> (&sums)[kRows]) {
  const auto first = hn::LoadU(d, factors + j);
  for (std::size_t i = 0; i < kRows; ++i) sums[i] = hn::Mul(hn::Set(d, left[i]), first);
  for (std::size_t k = 1; k < rank; ++k) {
    const auto factor = hn::LoadU(d, factors + k * cols + j);
    for (std::size_t i = 0; i < kRows; ++i) {
      sums[i] = hn::Add(sums[i], hn::Mul(hn::Set(d, left[k * rows + i]), factor));
    }
  }
}

// kRows rows of left * right^T. With a loss, the product with `right` or `own` is taken out of
// those of `matrix`.
template <Loss kLoss, std::size_t kRows, typename D>
HWY_INLINE void ReconstructAt(D d, const float* left, const float* right, const float* own,
                              std::size_t rows, std::size_t cols, std::size_t rank, std::size_t j,
                              float* matrix, float* loss) {
  hn::Vec<D> sums[kRows];
  ProductsAt(d, left, rows, kLoss == Loss::of_own ? own : right, cols, rank, j, sums);
  if constexpr (kLoss != Loss::none) {
    for (std::size_t i = 0; i < kRows; ++i) {
      const auto values = hn::LoadU(d, matrix + i * cols + j);
      // `loss` may be `matrix`.
      if constexpr (kLoss == Loss::of_right) hn::StoreU(sums[i], d, matrix + i * cols + j);
      hn::StoreU(hn::Sub(values, sums[i]), d, loss + i * cols + j);
    }
    if constexpr (kLoss == Loss::of_right) return;
    if (loss == matrix) return;
    ProductsAt(d, left, rows, right, cols, rank, j, sums);
  }
  for (std::size_t i = 0; i < kRows; ++i) hn::StoreU(sums[i], d, matrix + i * cols + j);
}

template <Loss kLoss, std::size_t kRows>
void ReconstructRows(const float* left, const float* right, const float* own, std::size_t rows,
                     std::size_t cols, std::size_t rank, float* matrix, float* loss) {
  const Floats d;
  std::size_t j = 0;
  for (; j + hn::Lanes(d) <= cols; j += hn::Lanes(d)) {
    if constexpr (kLoss != Loss::none) {
      for (std::size_t i = 0; i < kRows; ++i) {
        hwy::Prefetch(matrix + i * cols + j + kAhead);
        hwy::Prefetch(loss + i * cols + j + kAhead);
      }
    }
    ReconstructAt<kLoss, kRows>(d, left, right, own, rows, cols, rank, j, matrix, loss);
  }
  const hn::CappedTag<float, 1> one;
  for (; j < cols; ++j) {
    ReconstructAt<kLoss, kRows>(one, left, right, own, rows, cols, rank, j, matrix, loss);
  }
}

template <Loss kLoss>
void ReconstructAll(const float* left, const float* right, const float* own, std::size_t rows,
                    std::size_t cols, std::size_t rank, float* matrix, float* loss) {
  constexpr std::size_t kRows = 4;
  const auto loss_from = [&](std::size_t i) {
    return kLoss == Loss::none ? nullptr : loss + i * cols;
  };
  std::size_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    ReconstructRows<kLoss, kRows>(left + i, right, own, rows, cols, rank, matrix + i * cols,
                                  loss_from(i));
  }
  for (; i < rows; ++i) {
    ReconstructRows<kLoss, 1>(left + i, right, own, rows, cols, rank, matrix + i * cols,
                              loss_from(i));
  }
}

void Reconstruct(const float* left, const float* right, std::size_t rows, std::size_t cols,
                 std::size_t rank, float* matrix) {
  ReconstructAll<Loss::none>(left, right, nullptr, rows, cols, rank, matrix, nullptr);
}

void ReconstructKeepLoss(const float* left, const float* right, const float* own, std::size_t rows,
                         std::size_t cols, std::size_t rank, float* matrix, float* loss) {
  if (own == right) {
    ReconstructAll<Loss::of_right>(left, right, own, rows, cols, rank, matrix, loss);
  } else {
    ReconstructAll<Loss::of_own>(left, right, own, rows, cols, rank, matrix, loss);
  }
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(Multiply);
HWY_EXPORT(AddAndMultiply);
HWY_EXPORT(MultiplyTransposed);
HWY_EXPORT(Reconstruct);
HWY_EXPORT(ReconstructKeepLoss);

void multiply(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
              std::size_t rank, float* left) {
  HWY_DYNAMIC_DISPATCH(Multiply)(matrix, rows, cols, right, rank, left);
}
void add_and_multiply(const float* addend, std::size_t rows, std::size_t cols, const float* right,
                      std::size_t rank, float* matrix, float* left) {
  HWY_DYNAMIC_DISPATCH(AddAndMultiply)(addend, rows, cols, right, rank, matrix, left);
}
void multiply_transposed(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                         std::size_t rank, float* right) {
  HWY_DYNAMIC_DISPATCH(MultiplyTransposed)(matrix, rows, cols, left, rank, right);
}
void reconstruct(const float* left, const float* right, std::size_t rows, std::size_t cols,
                 std::size_t rank, float* matrix) {
  HWY_DYNAMIC_DISPATCH(Reconstruct)(left, right, rows, cols, rank, matrix);
}
void reconstruct_keep_loss(const float* left, const float* right, const float* own,
                           std::size_t rows, std::size_t cols, std::size_t rank, float* matrix,
                           float* loss) {
  HWY_DYNAMIC_DISPATCH(ReconstructKeepLoss)(left, right, own, rows, cols, rank, matrix, loss);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
