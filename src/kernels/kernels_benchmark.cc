// Bytes of gradient a second of each kernel; compare with Copy, a memcpy of the same size.

#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "src/kernels/elementwise.h"
#include "src/kernels/gram.h"
#include "src/kernels/lloyd_max.h"
#include "src/kernels/low_rank.h"
#include "src/kernels/quantize.h"
#include "src/kernels/rounding_loss.h"
#include "src/kernels/topk.h"

namespace lgreco::kernels {
namespace {

constexpr std::size_t kRows = 512, kCols = 4608, kCount = kRows * kCols;

const std::vector<float>& gradient() {
  static const std::vector<float> values = [] {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(kCount);
    for (float& value : values) value = normal(generator);
    return values;
  }();
  return values;
}

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kCount * sizeof(float)));
}

void Copy(benchmark::State& state) {
  std::vector<float> out(kCount);
  for (auto _ : state) {
    std::memcpy(out.data(), gradient().data(), kCount * sizeof(float));
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(Copy);

void Add(benchmark::State& state) {
  std::vector<float> out(kCount);
  for (auto _ : state) {
    add(gradient().data(), out.data(), kCount, out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(Add);

// From -4 to 4.
Grid grid_of(int bits) {
  const int below = (1 << bits) / 2;
  const auto above = static_cast<float>(std::max((1 << bits) - 1 - below, 1));
  return {bits, below, 4.0f / static_cast<float>(below), 4.0f / above};
}

void QuantizePack(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  const RandomStream stream = stream_of({1, 2, 3});
  std::vector<std::uint8_t> packed(packed_bytes(kCount, bits));
  for (auto _ : state) {
    quantize_pack(gradient().data(), kCount, grid_of(bits), &stream, 0, packed.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(QuantizePack)->Arg(2)->Arg(4)->Arg(8);

void UnpackDequantizeAdd(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  const std::vector<std::uint8_t> packed(packed_bytes(kCount, bits), 0x5A);
  std::vector<float> out(kCount);
  for (auto _ : state) {
    unpack_dequantize_add(packed.data(), kCount, grid_of(bits), out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(UnpackDequantizeAdd)->Arg(2)->Arg(4)->Arg(8);

void LloydMaxPackKeepLoss(benchmark::State& state) {
  const LloydMaxGrid grid{static_cast<int>(state.range(0)), Law::normal, false, 1.0f};
  std::vector<std::uint8_t> packed(packed_bytes(kCount, grid.bits));
  std::vector<float> values = gradient();
  for (auto _ : state) {
    lloyd_max_pack_keep_loss(values.data(), kCount, grid, packed.data(),
                             {values.data(), values.data()});
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(LloydMaxPackKeepLoss)->DenseRange(1, 8);

void LloydMaxUnpackAdd(benchmark::State& state) {
  const LloydMaxGrid grid{static_cast<int>(state.range(0)), Law::normal, false, 1.0f};
  const std::vector<std::uint8_t> packed(packed_bytes(kCount, grid.bits), 0x5A);
  std::vector<float> out(kCount);
  for (auto _ : state) {
    lloyd_max_unpack_add(packed.data(), kCount, grid, out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(LloydMaxUnpackAdd)->DenseRange(1, 8);

void LloydMaxLoss(benchmark::State& state) {
  const LloydMaxGrid grid{static_cast<int>(state.range(0)), Law::normal, false, 1.0f};
  for (auto _ : state) {
    benchmark::DoNotOptimize(lloyd_max_loss(gradient().data(), kCount, grid));
  }
  count_bytes(state);
}
BENCHMARK(LloydMaxLoss)->DenseRange(1, 8);

void SelectTopK(benchmark::State& state) {
  const std::size_t k = kCount / static_cast<std::size_t>(state.range(0));
  constexpr std::size_t kBlock = TopKCandidates::kBlock;
  std::uint32_t indices[kBlock];
  for (auto _ : state) {
    TopKCandidates candidates(kCount);
    TopKThreshold threshold = find_threshold(gradient().data(), kCount, k, candidates);
    for (std::size_t at = 0; at < kCount; at += kBlock) {
      select_block(gradient().data() + at, std::min(kBlock, kCount - at),
                   candidates.runs(at / kBlock), threshold, indices);
      benchmark::DoNotOptimize(indices);
    }
  }
  count_bytes(state);
}
BENCHMARK(SelectTopK)->Arg(100)->Arg(1000);

void LowRank(benchmark::State& state) {
  const auto rank = static_cast<std::size_t>(state.range(0));
  std::vector<float> left(kRows * rank), right(kCols * rank, 1.0f), out(kCount);
  for (auto _ : state) {
    multiply(gradient().data(), kRows, kCols, right.data(), rank, left.data());
    orthonormalize(left.data(), kRows, rank);
    multiply_transposed(gradient().data(), kRows, kCols, left.data(), rank, right.data());
    reconstruct(left.data(), right.data(), kRows, kCols, rank, out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(LowRank)->Arg(1)->Arg(4)->Arg(16)->Arg(32);

void Gram(benchmark::State& state) {
  std::vector<double> out(kRows * kRows);
  for (auto _ : state) {
    gram(gradient().data(), kRows, kCols, out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}
BENCHMARK(Gram)->Unit(benchmark::kMillisecond);

void RoundingLoss(benchmark::State& state) {
  constexpr std::size_t kBucket = 1024;
  for (auto _ : state) {
    for (std::size_t at = 0; at < kCount; at += kBucket) {
      benchmark::DoNotOptimize(
          rounding_loss(gradient().data() + at, kBucket, grid_of(4), state.range(0) != 0));
    }
  }
  count_bytes(state);
}
BENCHMARK(RoundingLoss)->Arg(0)->Arg(1);

}  // namespace
}  // namespace lgreco::kernels
