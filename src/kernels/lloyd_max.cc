#include "src/kernels/lloyd_max.h"

#include <algorithm>
#include <type_traits>

#include "hwy/cache_control.h"
#include "src/kernels/lloyd_max_table.h"
#include "src/kernels/scalar.h"
#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/lloyd_max.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::RebindToSigned<Floats>;
using Words = hn::RebindToUnsigned<Floats>;
using Vector = hn::Vec<Floats>;
using Indices = hn::Vec<Ints>;

constexpr std::size_t kLanes = hn::MaxLanes(Floats());
constexpr std::size_t kAhead = 1024;  // values, also of the next bucket

// The magnitudes of few bits, in registers: at most 8. All thresholds are compared with.
template <int kBits>
class FewMagnitudes {
 public:
  explicit FewMagnitudes(const LloydMaxGrid& grid) {
    const Floats d;
    const auto [magnitudes, thresholds] = levels_of(grid);
    for (std::size_t i = 0; i < thresholds.size(); ++i) thresholds_[i] = hn::Set(d, thresholds[i]);
    std::copy(magnitudes.begin(), magnitudes.end(), magnitudes_);
  }

  HWY_INLINE Indices IndexOf(Vector y) const {
    const Ints di;
    auto index = hn::Zero(di);
    for (int i = 0; i < kThresholds; ++i) {
      const auto is_above = hn::RebindMask(di, hn::Ge(y, thresholds_[i]));
      index = hn::IfThenElse(is_above, hn::Set(di, i + 1), index);
    }
    return index;
  }

  HWY_INLINE Vector MagnitudeOf(Indices index) const {
    const Floats d;
#if HWY_TARGET == HWY_SCALAR
    return hn::Set(d, magnitudes_[hn::GetLane(index)]);
#else
    const auto first = hn::LoadU(d, magnitudes_);
    if constexpr (kLanes >= kMost) {
      return hn::TableLookupLanes(first, hn::IndicesFromVec(d, index));
    } else {
      const Ints di;
      constexpr auto kHere = static_cast<int>(kLanes);
      const auto lanes = hn::IndicesFromVec(d, hn::And(index, hn::Set(di, kHere - 1)));
      const auto is_second = hn::RebindMask(d, hn::Gt(index, hn::Set(di, kHere - 1)));
      return hn::IfThenElse(is_second,
                            hn::TableLookupLanes(hn::LoadU(d, magnitudes_ + kLanes), lanes),
                            hn::TableLookupLanes(first, lanes));
    }
#endif
  }

 private:
  static constexpr int kThresholds = (1 << (kBits - 1)) - 1;
  static constexpr std::size_t kMost = 8;
  alignas(64) float magnitudes_[std::max(kMost, kLanes)] = {};
  Vector thresholds_[kThresholds == 0 ? 1 : kThresholds];
};

// The magnitudes of 16 to 64 codes in vectors of 16, where there are such.
template <int kBits>
class MagnitudeVectors {
 public:
  explicit MagnitudeVectors(const float* magnitudes) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      vectors_[v] = hn::LoadU(Floats(), magnitudes + v * kLanes);
    }
  }

  HWY_INLINE Vector At(Indices index) const {
    const Floats d;
    const Ints di;
    constexpr auto kHere = static_cast<int>(kLanes);
    const auto lanes = hn::IndicesFromVec(d, hn::And(index, hn::Set(di, kHere - 1)));
    auto found = hn::TableLookupLanes(vectors_[0], lanes);
    for (std::size_t v = 1; v < kVectors; ++v) {
      const auto is_here = hn::Gt(index, hn::Set(di, static_cast<int>(v) * kHere - 1));
      found = hn::IfThenElse(hn::RebindMask(d, is_here), hn::TableLookupLanes(vectors_[v], lanes),
                             found);
    }
    return found;
  }

 private:
  static constexpr std::size_t kVectors = (std::size_t{1} << (kBits - 1)) / kLanes;
  Vector vectors_[kVectors];
};

class MagnitudesInMemory {
 public:
  explicit MagnitudesInMemory(const float* magnitudes) : magnitudes_(magnitudes) {}

  HWY_INLINE Vector At(Indices index) const {
    return hn::GatherIndex(Floats(), magnitudes_, index);
  }

 private:
  const float* magnitudes_;
};

template <int kBits>
class ManyMagnitudes {
 public:
  explicit ManyMagnitudes(const LloydMaxGrid& grid)
      : cells_(lloyd_max_cells(grid.law, grid.has_zero, grid.bits)),
        magnitudes_(levels_of(grid).magnitudes.data()) {}

  HWY_INLINE Indices IndexOf(Vector y) const {
    const Floats d;
    const Ints di;
    const auto positive = hn::Max(y, hn::Zero(d));
    const auto from_one = hn::Sub(hn::BitCast(di, hn::Add(positive, hn::Set(d, 1.0f))),
                                  hn::Set(di, LloydMaxCells::kOne));
    const auto cell = hn::Min(hn::ShiftRightSame(from_one, cells_.shift), hn::Set(di, cells_.last));
    const auto entry = hn::GatherIndex(di, cells_.entries, cell);
    const auto below = hn::And(entry, hn::Set(di, LloydMaxCells::kBelowMask));
    const auto is_under = hn::Lt(hn::BitCast(di, positive), hn::Sub(entry, below));
    return hn::Add(below, hn::IfThenElse(is_under, hn::Zero(di), hn::Set(di, 1)));
  }

  HWY_INLINE Vector MagnitudeOf(Indices index) const { return magnitudes_.At(index); }

 private:
  static constexpr bool kInVectors = kLanes == 16 && kBits < 8;
  LloydMaxCells cells_;
  std::conditional_t<kInVectors, MagnitudeVectors<kBits>, MagnitudesInMemory> magnitudes_;
};

// Calls `work` with what finds the grid's magnitudes.
template <typename Work>
HWY_INLINE auto WithMagnitudes(const LloydMaxGrid& grid, const Work& work) {
  switch (grid.bits) {
    case 1:
      return work(FewMagnitudes<1>(grid));
    case 2:
      return work(FewMagnitudes<2>(grid));
    case 3:
      return work(FewMagnitudes<3>(grid));
    case 4:
      return work(FewMagnitudes<4>(grid));
    case 5:
      return work(ManyMagnitudes<5>(grid));
    case 6:
      return work(ManyMagnitudes<6>(grid));
    case 7:
      return work(ManyMagnitudes<7>(grid));
    default:
      return work(ManyMagnitudes<8>(grid));
  }
}

HWY_INLINE Vector UnitsOf(Vector value, Vector offset, Vector inverse) {
  return hn::Mul(hn::Sub(hn::Abs(value), offset), inverse);
}

// One code a byte. With kKeepLoss, values[i] becomes what its code leaves.
template <bool kKeepLoss, typename Magnitudes, typename Float>
void CodesOf(const Magnitudes& magnitudes, Float* values, std::size_t count,
             const LloydMaxGrid& grid, std::uint8_t* codes,
             [[maybe_unused]] const Upcoming& upcoming) {
  const Floats d;
  const Words dw;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto offset = hn::Set(d, grid.offset), scale = hn::Set(d, grid.scale);
  const auto inverse = hn::Set(d, grid.inverse());
  const int sign_shift = 32 - grid.bits;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    if constexpr (kKeepLoss) {
      hwy::Prefetch(upcoming.values + i);
      hwy::Prefetch(upcoming.addend + i);
    }
    const auto value = hn::LoadU(d, values + i);
    const auto index = magnitudes.IndexOf(UnitsOf(value, offset, inverse));
    const auto sign = hn::And(value, hn::SignBit(d));
    const auto code =
        hn::Or(hn::BitCast(dw, index), hn::ShiftRightSame(hn::BitCast(dw, sign), sign_shift));
    hn::StoreU(hn::TruncateTo(bytes, code), bytes, codes + i);
    if constexpr (kKeepLoss) {
      const auto magnitude = hn::Add(hn::Mul(magnitudes.MagnitudeOf(index), scale), offset);
      hn::StoreU(hn::Sub(value, hn::Or(magnitude, sign)), d, values + i);
    }
  }
  for (const auto levels = levels_of(grid); i < count; ++i) {
    codes[i] = code_of(values[i], grid, levels);
    if constexpr (kKeepLoss) values[i] -= value_of(codes[i], grid, levels);
  }
}

void LloydMaxCodes(const float* values, std::size_t count, const LloydMaxGrid& grid,
                   std::uint8_t* codes) {
  WithMagnitudes(grid, [&](const auto& magnitudes) HWY_ATTR {
    CodesOf<false>(magnitudes, values, count, grid, codes, {});
  });
}

void LloydMaxCodesKeepLoss(float* values, std::size_t count, const LloydMaxGrid& grid,
                           std::uint8_t* codes, const Upcoming& upcoming) {
  WithMagnitudes(grid, [&](const auto& magnitudes) HWY_ATTR {
    CodesOf<true>(magnitudes, values, count, grid, codes, upcoming);
  });
}

template <typename Magnitudes>
void AddValues(const Magnitudes& magnitudes, const std::uint8_t* codes, std::size_t count,
               const LloydMaxGrid& grid, float* accumulator) {
  const Floats d;
  const Ints di;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto offset = hn::Set(d, grid.offset), scale = hn::Set(d, grid.scale);
  const auto index_mask = hn::Set(di, (1 << (grid.bits - 1)) - 1);
  const int sign_shift = 32 - grid.bits;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hwy::Prefetch(accumulator + i + kAhead);
    const auto code = hn::PromoteTo(di, hn::LoadU(bytes, codes + i));
    const auto index = hn::And(code, index_mask);
    const auto sign = hn::And(hn::BitCast(d, hn::ShiftLeftSame(code, sign_shift)), hn::SignBit(d));
    const auto magnitude = hn::Add(hn::Mul(magnitudes.MagnitudeOf(index), scale), offset);
    hn::StoreU(hn::Add(hn::LoadU(d, accumulator + i), hn::Or(magnitude, sign)), d, accumulator + i);
  }
  for (const auto levels = levels_of(grid); i < count; ++i) {
    accumulator[i] += value_of(codes[i], grid, levels);
  }
}

void LloydMaxAdd(const std::uint8_t* codes, std::size_t count, const LloydMaxGrid& grid,
                 float* accumulator) {
  WithMagnitudes(grid, [&](const auto& magnitudes)
                           HWY_ATTR { AddValues(magnitudes, codes, count, grid, accumulator); });
}

template <typename Magnitudes>
float SumLosses(const Magnitudes& magnitudes, const float* values, std::size_t count,
                const LloydMaxGrid& grid) {
  const Floats d;
  constexpr std::size_t kVectors = 16 / kLanes;
  const auto offset = hn::Set(d, grid.offset), inverse = hn::Set(d, grid.inverse());
  Vector sums[kVectors];
  for (Vector& sum : sums) sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto y = UnitsOf(hn::LoadU(d, values + i + v * kLanes), offset, inverse);
      const auto loss = hn::Sub(y, magnitudes.MagnitudeOf(magnitudes.IndexOf(y)));
      sums[v] = hn::Add(sums[v], hn::Mul(loss, loss));
    }
  }
  float lanes[16];
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, lanes + v * kLanes);
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    lanes[lane] += scalar::lloyd_max_loss_of(values[i], grid);
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

float LloydMaxLoss(const float* values, std::size_t count, const LloydMaxGrid& grid) {
  return WithMagnitudes(grid, [&](const auto& magnitudes)
                                  HWY_ATTR { return SumLosses(magnitudes, values, count, grid); });
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(LloydMaxCodes);
HWY_EXPORT(LloydMaxCodesKeepLoss);
HWY_EXPORT(LloydMaxAdd);
HWY_EXPORT(LloydMaxLoss);

void lloyd_max_pack(const float* values, std::size_t count, const LloydMaxGrid& grid,
                    std::uint8_t* packed) {
  pack_in_blocks(count, grid.bits, packed, [&](std::size_t at, std::size_t length, auto* codes) {
    HWY_DYNAMIC_DISPATCH(LloydMaxCodes)(values + at, length, grid, codes);
  });
}

void lloyd_max_pack_keep_loss(float* values, std::size_t count, const LloydMaxGrid& grid,
                              std::uint8_t* packed, const Upcoming& upcoming) {
  pack_in_blocks(count, grid.bits, packed, [&](std::size_t at, std::size_t length, auto* codes) {
    HWY_DYNAMIC_DISPATCH(LloydMaxCodesKeepLoss)
    (values + at, length, grid, codes, {upcoming.values + at, upcoming.addend + at});
  });
}

void lloyd_max_unpack_add(const std::uint8_t* packed, std::size_t count, const LloydMaxGrid& grid,
                          float* accumulator) {
  unpack_in_blocks(packed, count, grid.bits,
                   [&](std::size_t at, std::size_t length, const std::uint8_t* codes) {
                     HWY_DYNAMIC_DISPATCH(LloydMaxAdd)(codes, length, grid, accumulator + at);
                   });
}

float lloyd_max_loss(const float* values, std::size_t count, const LloydMaxGrid& grid) {
  return HWY_DYNAMIC_DISPATCH(LloydMaxLoss)(values, count, grid);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
