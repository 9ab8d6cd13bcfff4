#include "src/kernels/lloyd_max_table.h"

namespace lgreco::kernels {
namespace {

constexpr std::size_t kLaws = LloydMaxTable::kLaws;
constexpr int kMostBits = LloydMaxTable::kMostBits;

constexpr float kMagnitudes[kLaws][2][LloydMaxTable::kOfLaw] = {
#include "src/kernels/lloyd_max_levels.inc"
};
static_assert(sizeof kMagnitudes == LloydMaxTable::kFloats * sizeof(float));

constexpr std::size_t first_of(int bits) { return LloydMaxTable::first_of(bits); }

// Half a cell for each step from one magnitude to the next near zero, where they are closest.
constexpr int shift_of(int bits) { return 24 - bits; }

constexpr std::int32_t cell_of(float y, int bits) {
  return (std::bit_cast<std::int32_t>(y + 1.0f) - LloydMaxCells::kOne) >> shift_of(bits);
}

struct Thresholds {
  float of[kLaws][2][LloydMaxTable::kOfLaw] = {};
};

constexpr Thresholds kThresholds = [] {
  Thresholds thresholds;
  for (std::size_t law = 0; law < kLaws; ++law) {
    for (std::size_t zero = 0; zero < 2; ++zero) {
      const auto& magnitudes = kMagnitudes[law][zero];
      for (int bits = 1; bits <= kMostBits; ++bits) {
        for (std::size_t i = first_of(bits); i + 1 < first_of(bits + 1); ++i) {
          const float middle = (magnitudes[i] + magnitudes[i + 1]) / 2;
          const auto kept = std::bit_cast<std::int32_t>(middle) & ~LloydMaxCells::kBelowMask;
          thresholds.of[law][zero][i] = std::bit_cast<float>(kept);
        }
      }
    }
  }
  return thresholds;
}();

constexpr std::span<const float> thresholds_of(std::size_t law, std::size_t zero, int bits) {
  return std::span(kThresholds.of[law][zero])
      .subspan(first_of(bits), LloydMaxTable::count_of(bits) - 1);
}

constexpr std::size_t kBitsOfCells = kMostBits - kLeastBitsOfCells + 1;

struct Places {
  std::size_t first[kLaws][2][kBitsOfCells] = {};  // entry
  std::int32_t last[kLaws][2][kBitsOfCells] = {};  // cell
  std::size_t count = 0;                           // entries in all
};

constexpr Places kPlaces = [] {
  Places places;
  for (std::size_t law = 0; law < kLaws; ++law) {
    for (std::size_t zero = 0; zero < 2; ++zero) {
      for (std::size_t b = 0; b < kBitsOfCells; ++b) {
        const int bits = kLeastBitsOfCells + static_cast<int>(b);
        const std::int32_t last = cell_of(thresholds_of(law, zero, bits).back(), bits) + 1;
        places.first[law][zero][b] = places.count;
        places.last[law][zero][b] = last;
        places.count += static_cast<std::size_t>(last) + 1;
      }
    }
  }
  return places;
}();

constexpr std::array<std::int32_t, kPlaces.count> kEntries = [] {
  std::array<std::int32_t, kPlaces.count> entries{};
  for (std::size_t law = 0; law < kLaws; ++law) {
    for (std::size_t zero = 0; zero < 2; ++zero) {
      for (std::size_t b = 0; b < kBitsOfCells; ++b) {
        const int bits = kLeastBitsOfCells + static_cast<int>(b);
        const auto thresholds = thresholds_of(law, zero, bits);
        std::int32_t* of_cell = entries.data() + kPlaces.first[law][zero][b];
        std::size_t below = 0;
        for (std::int32_t cell = 0; cell <= kPlaces.last[law][zero][b]; ++cell) {
          of_cell[cell] = LloydMaxCells::kNone | static_cast<std::int32_t>(below);
          if (below == thresholds.size() || cell_of(thresholds[below], bits) != cell) continue;
          of_cell[cell] =
              std::bit_cast<std::int32_t>(thresholds[below]) | static_cast<std::int32_t>(below);
          ++below;
          if (below < thresholds.size() && cell_of(thresholds[below], bits) == cell) {
            throw "two thresholds in one cell";
          }
        }
      }
    }
  }
  return entries;
}();

}  // namespace

LloydMaxTable lloyd_max_table() { return {kMagnitudes[0][0], kThresholds.of[0][0]}; }

LloydMaxLevels levels_of(const LloydMaxGrid& grid) { return lloyd_max_table().levels(grid); }

LloydMaxCells lloyd_max_cells(Law law, bool has_zero, int bits) {
  const auto l = static_cast<std::size_t>(law);
  const std::size_t zero = has_zero ? 1 : 0;
  const auto b = static_cast<std::size_t>(bits - kLeastBitsOfCells);
  return {shift_of(bits), kPlaces.last[l][zero][b], kEntries.data() + kPlaces.first[l][zero][b]};
}

}  // namespace lgreco::kernels
