// All densities from one histogram of magnitudes, whose bins are the values of bf16: 128 for each
// power of two. A bin has the exact energy of its values, so that only the bin in which a threshold
// falls is estimated: its values count as equal, and they differ by less than 1 in 128. The error
// of a level is therefore right within 0.8 % whatever the values, and mostly within 0.01 %.
//
// What few bits lose of the kept values depends on their order, and is found by selecting them.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "src/compressors/analyze.h"
#include "src/compressors/topk_count.h"
#include "src/compressors/topk_values.h"
#include "src/kernels/cast.h"
#include "src/kernels/topk.h"

namespace lgreco {
namespace {

struct Bin {
  std::size_t count = 0;
  double energy = 0;    // sum of the squares
  double rounding = 0;  // sum of the squares of what rounding to bf16 loses; infinite on overflow
};

// What rounding the kept values loses, when bins [0, i) are dropped, for each i.
std::vector<double> rounding_above(std::span<const Bin> bins) {
  std::vector<double> above(bins.size() + 1, 0.0);
  for (std::size_t i = bins.size(); i > 0; --i) above[i - 1] = above[i] + bins[i - 1].rounding;
  return above;
}

// Positions of the levels, the largest density first.
std::vector<std::size_t> by_density(std::span<const Level> levels) {
  std::vector<std::size_t> order(levels.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return levels[a].parameter > levels[b].parameter;
  });
  return order;
}

class Histogram {
 public:
  /// The bins of `values` that are not empty, in ascending order of the magnitude.
  std::vector<Bin> count(std::span<const float> values) {
    constexpr std::size_t kBlock = 1024;
    std::uint16_t rounded[kBlock];
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
      kernels::to_bf16(block.data(), block.size(), rounded);
      for (std::size_t i = 0; i < block.size(); ++i) add(block[i], kernels::bf16_value(rounded[i]));
    }
    return take();
  }

 private:
  void add(float value, float rounded) {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu;
    const double exact = static_cast<double>(value);
    const double lost = exact - static_cast<double>(rounded);
    Bin& bin = bins_[magnitude >> 16];
    ++bin.count;
    bin.energy += exact * exact;
    bin.rounding += lost * lost;
    has_exponent_[magnitude >> 23] = true;
  }

  // Leaves all bins empty. Most exponents do not occur, and are not looked at.
  std::vector<Bin> take() {
    std::vector<Bin> taken;
    for (std::size_t exponent = 0; exponent < kExponents; ++exponent) {
      if (!has_exponent_[exponent]) continue;
      has_exponent_[exponent] = false;
      for (std::size_t i = exponent * kBinsEach; i < (exponent + 1) * kBinsEach; ++i) {
        if (bins_[i].count > 0) taken.push_back(bins_[i]);
        bins_[i] = {};
      }
    }
    return taken;
  }

  static constexpr std::size_t kExponents = 256, kBinsEach = 128;
  std::vector<Bin> bins_ = std::vector<Bin>(kExponents * kBinsEach);
  bool has_exponent_[kExponents] = {};
};

// The values that are kept, in their order.
std::vector<float> kept_values(std::span<const float> values, std::size_t k,
                               kernels::TopKThreshold& threshold) {
  constexpr std::size_t kBlock = kernels::TopKCandidates::kBlock;
  kernels::TopKCandidates candidates(values.size());
  threshold = kernels::find_threshold(values.data(), values.size(), k, candidates);
  kernels::TopKThreshold rest = threshold;
  std::vector<float> kept(k);
  float* next = kept.data();
  std::uint32_t indices[kBlock];
  for (std::size_t at = 0; at < values.size(); at += kBlock) {
    const std::uint64_t runs = candidates.runs(at / kBlock);
    if (runs == 0) continue;
    const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
    const std::size_t found =
        kernels::select_block(block.data(), block.size(), runs, rest, indices);
    for (std::size_t i = 0; i < found; ++i) *next++ = block[indices[i]];
  }
  return kept;
}

// What few bits lose of the kept values, which are among those of the larger density before.
// `order` is by_density(levels).
void add_few_bits(std::span<const float> values, std::span<const Level> levels,
                  std::span<const std::size_t> order, std::span<double> sums) {
  std::vector<float> kept;
  kernels::TopKThreshold threshold;
  for (std::size_t i : order) {
    if (levels[i].value_bits == 0) continue;
    const std::size_t k = topk_count(levels[i].parameter, values.size());
    if (kept.size() != k) kept = kept_values(kept.empty() ? values : kept, k, threshold);
    const float least = std::bit_cast<float>(threshold.magnitude);
    sums[i] += TopKValues(levels[i].value_bits, least).squared_loss(kept);
  }
}

// `order` is by_density(levels).
void add_piece(std::span<const float> values, std::span<const Level> levels,
               std::span<const std::size_t> order, Histogram& histogram, std::span<double> sums) {
  const std::vector<Bin> bins = histogram.count(values);
  const std::vector<double> rounding = rounding_above(bins);
  std::size_t bin = 0;  // the bins below are dropped as a whole
  std::size_t dropped = 0;
  double energy = 0;
  for (std::size_t i : order) {
    const std::size_t wanted = values.size() - topk_count(levels[i].parameter, values.size());
    for (; dropped + bins[bin].count <= wanted; ++bin) {
      dropped += bins[bin].count;
      energy += bins[bin].energy;
    }
    const double share =
        static_cast<double>(wanted - dropped) / static_cast<double>(bins[bin].count);
    sums[i] += energy + share * bins[bin].energy;
    if (levels[i].value_bits == 0 && levels[i].values == DType::bf16) {
      sums[i] += (1 - share) * bins[bin].rounding + rounding[bin + 1];
    }
  }
}

}  // namespace

void add_topk_losses(const LayerValues& layer, std::span<const Level> levels,
                     std::span<double> sums) {
  const std::vector<std::size_t> order = by_density(levels);
  Histogram histogram;
  for_each_piece(layer, [&](std::span<const float> piece) {
    add_piece(piece, levels, order, histogram, sums);
    add_few_bits(piece, levels, order, sums);
  });
}

}  // namespace lgreco
