#include "src/kernels/topk.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <vector>

#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/topk.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Indices, ascending, of magnitude bits above `threshold`, and of the first `ties` that equal it.
void Emit(const float* values, std::size_t count, std::uint32_t threshold, std::size_t ties,
          std::uint32_t* indices) {
  const hn::ScalableTag<std::int32_t> d;  // a magnitude has no sign bit
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = hn::Set(d, 0x7FFFFFFF);
  const auto below = hn::Set(d, static_cast<std::int32_t>(threshold) - 1);
  const auto* words = reinterpret_cast<const std::uint32_t*>(values);
  const auto* signed_words = reinterpret_cast<const std::int32_t*>(values);
  const auto visit = [&](std::size_t i) {
    const std::uint32_t magnitude = words[i] & 0x7FFFFFFFu;
    if (magnitude > threshold || (magnitude == threshold && ties > 0)) {
      ties -= magnitude == threshold ? 1 : 0;
      *indices++ = static_cast<std::uint32_t>(i);
    }
  };
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto magnitude = hn::And(hn::LoadU(d, signed_words + i), magnitudes);
    if (hn::AllFalse(d, hn::Gt(magnitude, below))) continue;  // nearly always
    for (std::size_t lane = 0; lane < lanes; ++lane) visit(i + lane);
  }
  for (; i < count; ++i) visit(i);
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {
namespace {

HWY_EXPORT(Emit);

// The order of magnitudes is the order of their bit patterns. Bins are the exponent and the top
// three bits of the mantissa.
constexpr int kBinShift = 20;
constexpr std::size_t kBins = std::size_t{1} << (31 - kBinShift);

std::uint32_t magnitude_bits(float value) {
  return std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu;
}

}  // namespace

void select_top_k(const float* values, std::size_t count, std::size_t k, std::uint32_t* indices) {
  std::vector<std::size_t> histogram(kBins, 0);
  for (std::size_t i = 0; i < count; ++i) ++histogram[magnitude_bits(values[i]) >> kBinShift];

  // The bin that holds the k-th largest, and how many of it are among the k.
  std::size_t bin = kBins - 1;
  std::size_t wanted = k;
  while (histogram[bin] < wanted) wanted -= histogram[bin--];

  std::vector<std::uint32_t> members;
  members.reserve(histogram[bin]);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = magnitude_bits(values[i]);
    if (magnitude >> kBinShift == bin) members.push_back(magnitude);
  }
  const auto last = members.begin() + static_cast<std::ptrdiff_t>(wanted - 1);
  std::nth_element(members.begin(), last, members.end(), std::greater<>());
  const std::uint32_t threshold = *last;
  const auto above = std::count_if(members.begin(), last,
                                   [&](std::uint32_t member) { return member > threshold; });
  HWY_DYNAMIC_DISPATCH(Emit)
  (values, count, threshold, wanted - static_cast<std::size_t>(above), indices);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
