// Whether the kernels of this GPU give the bits of the CPU's codecs, and how fast they are.
//
// Exits with 0 when all are the same, with 1 when some are not or CUDA fails, and with 77 when
// there is no GPU. A few seconds, and 3 GB of its memory.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "adaptors/cuda/launch.h"
#include "lgreco/compressor.h"
#include "src/device/cast.h"
#include "src/device/quantize_nearest.h"
#include "src/device/quantize_stochastic.h"
#include "src/kernels/lloyd_max_table.h"

namespace lgreco::cuda {
namespace {

constexpr int kNoDevice = 77;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    check(cudaMalloc(&data_, count * sizeof(T)));
    check(cudaMemset(data_, 0x5A, count * sizeof(T)));
  }
  explicit DeviceArray(std::span<const T> values) : DeviceArray(values.size()) {
    check(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  std::vector<T> on_host() const {
    std::vector<T> values(count_);
    check(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t count_;
  T* data_ = nullptr;
};

// What every kernel may need there.
struct Memory {
  static std::span<const float> floats(const float* first) {
    return {first, kernels::LloydMaxTable::kFloats};
  }

  DeviceArray<float> magnitudes{floats(kernels::lloyd_max_table().magnitudes)};
  DeviceArray<float> thresholds{floats(kernels::lloyd_max_table().thresholds)};

  kernels::LloydMaxTable table() const { return {magnitudes.data(), thresholds.data()}; }
};

// The kernels of one level. Payloads begin at an odd address.
class Codec {
 public:
  Codec(const Memory& memory, const std::string& level)
      : memory_(memory), level_(parse_level(level)), on_cpu_(coded_compressor(level_)) {}

  const CodedCompressor& on_cpu() const { return *on_cpu_; }

  void encode(std::size_t count, const RandomKey& key, std::size_t first_element, float* values,
              const float* residual, std::uint8_t* payload, unsigned* refused) const {
    using namespace device;
    if (level_.method == Method::cast && level_.values == DType::bf16) {
      check(launch(CastKeepLoss<Bf16>{{count}, values, residual, payload, refused}, nullptr));
    } else if (level_.method == Method::cast) {
      check(launch(CastKeepLoss<F16>{{count}, values, residual, payload, refused}, nullptr));
    } else if (level_.rounding == Rounding::nearest) {
      check(launch(QuantizeNearestKeepLoss{buckets(count), memory_.table(), values, residual,
                                           payload, refused},
                   nullptr));
    } else {
      check(launch(QuantizeStochasticKeepLoss{buckets(count), key, first_element, values, residual,
                                              payload, refused},
                   nullptr));
    }
  }

  void decode(std::size_t count, const std::uint8_t* payload, float* sum, unsigned* refused) const {
    using namespace device;
    if (level_.method == Method::cast && level_.values == DType::bf16) {
      check(launch(CastAdd<Bf16>{{count}, payload, sum, refused}, nullptr));
    } else if (level_.method == Method::cast) {
      check(launch(CastAdd<F16>{{count}, payload, sum, refused}, nullptr));
    } else if (level_.rounding == Rounding::nearest) {
      check(launch(DequantizeNearestAdd{buckets(count), memory_.table(), payload, sum, refused},
                   nullptr));
    } else {
      check(launch(DequantizeStochasticAdd{buckets(count), payload, sum, refused}, nullptr));
    }
  }

 private:
  device::Buckets buckets(std::size_t count) const {
    return {count, level_.bucket, static_cast<int>(level_.parameter)};
  }

  const Memory& memory_;
  Level level_;
  std::unique_ptr<CodedCompressor> on_cpu_;
};

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::vector<float> draw(std::size_t count, int kind, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) {
    const float x = normal(random);
    switch (kind) {
      case 0:
        value = x;
        break;
      case 1:  // squares vanish
        value = 1e-30f * x;
        break;
      case 2:  // squares overflow
        value = 1e30f * x;
        break;
      case 3:
        value = 1e-42f * x;
        break;
      case 4:
        value = random() % 4 == 0 ? -0.0f : std::abs(x);
        break;
      case 5:
        value = std::ldexp(x, static_cast<int>(random() % 80) - 40);
        break;
      case 6:
        value = random() % 2 == 0 ? 0.0f : -0.0f;
        break;
      default:
        value = random() % 500 == 0 ? INFINITY : x;
    }
  }
  return values;
}
constexpr int kKinds = 8;

// Whether payload, loss, sum and verdicts are the same.
bool is_same(const Codec& codec, std::size_t count, int kind, std::mt19937& random) {
  const auto gradient = draw(count, kind, random), residual = draw(count, kind, random);
  const RandomKey key{random(), random(), random()};
  const std::size_t first_element = 1024 * (random() % 5);

  auto loss = gradient;
  std::vector<std::uint8_t> payload(1 + codec.on_cpu().payload_bytes(count), 0x5A);
  const auto bytes = std::as_writable_bytes(std::span(payload)).subspan(1);
  const bool is_sent = codec.on_cpu().encode_keep_loss(loss, residual, key, first_element, bytes);

  const DeviceArray<float> values{std::span<const float>(gradient)};
  const DeviceArray<float> addend{std::span<const float>(residual)};
  const DeviceArray<std::uint8_t> encoded(payload.size());
  const unsigned zero = 0;
  const DeviceArray<unsigned> refused{std::span(&zero, 1)};
  codec.encode(count, key, first_element, values.data(), addend.data(), encoded.data() + 1,
               refused.data());
  if ((refused.on_host()[0] == 0) != is_sent) return false;
  if (!is_sent) return true;
  if (!same_bits(encoded.on_host(), payload) || !same_bits(values.on_host(), loss)) return false;

  std::vector<float> sum(count, 0.25f);
  const DeviceArray<float> accumulator{std::span<const float>(sum)};
  const bool is_added = codec.on_cpu().decode_add(bytes, sum).is_ok();
  codec.decode(count, encoded.data() + 1, accumulator.data(), refused.data());
  return is_added && refused.on_host()[0] == 0 && same_bits(accumulator.on_host(), sum);
}

std::vector<std::string> levels() {
  std::vector<std::string> levels = {"cast:bf16", "cast:fp16"};
  for (int bits = 1; bits <= 8; ++bits) {
    for (const char* rounding : {"nearest", "stochastic"}) {
      for (const char* bucket : {"8", "256", "512", "4096"}) {
        levels.push_back("quantize:" + std::to_string(bits) + ":bucket=" + bucket +
                         ":rounding=" + rounding);
      }
    }
  }
  return levels;
}

int compare(const Memory& memory) {
  std::mt19937 random(3);
  int cases = 0, different = 0;
  for (const std::string& level : levels()) {
    const Codec codec(memory, level);
    for (std::size_t count : {1u, 7u, 511u, 513u, 5003u, 20'003u}) {
      for (int kind = 0; kind < kKinds; ++kind) {
        ++cases;
        if (is_same(codec, count, kind, random)) continue;
        if (++different <= 10) {
          std::printf("%s, %zu values of kind %d: not the bits of the CPU\n", level.c_str(), count,
                      kind);
        }
      }
    }
  }
  std::printf("kernels of CUDA: %d of %d cases have the bits of the CPU\n", cases - different,
              cases);
  return different;
}

template <typename Work>
double seconds_of(const Work& work) {
  constexpr int kRepeats = 10;
  work();
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  check(cudaEventRecord(begin));
  for (int i = 0; i < kRepeats; ++i) work();
  check(cudaEventRecord(end));
  check(cudaEventSynchronize(end));
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin, end));
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  return milliseconds * 1e-3 / kRepeats;
}

void measure(const Memory& memory) {
  constexpr std::size_t kCount = std::size_t{1} << 28;
  std::mt19937 random(4);
  const auto some = draw(1 << 20, 0, random);
  const DeviceArray<float> values(kCount), residual(kCount);
  const DeviceArray<unsigned> refused(1);
  for (const char* level :
       {"cast:bf16", "quantize:2", "quantize:4", "quantize:8", "quantize:4:rounding=stochastic"}) {
    const Codec codec(memory, level);
    const DeviceArray<std::uint8_t> payload(codec.on_cpu().payload_bytes(kCount));
    for (std::size_t at = 0; at < kCount; at += some.size()) {
      for (float* to : {values.data(), residual.data()}) {
        check(
            cudaMemcpy(to + at, some.data(), some.size() * sizeof(float), cudaMemcpyHostToDevice));
      }
    }
    const double encode = seconds_of([&] {
      codec.encode(kCount, {1, 2, 3}, 0, values.data(), residual.data(), payload.data(),
                   refused.data());
    });
    const double decode =
        seconds_of([&] { codec.decode(kCount, payload.data(), values.data(), refused.data()); });
    const double gigabytes = kCount * sizeof(float) / 1e9;
    std::printf("%s: encodes %.0f and decodes %.0f GB of fp32 a second\n", level,
                gigabytes / encode, gigabytes / decode);
  }
}

int run() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("[cuda check] no GPU on this machine\n");
    return kNoDevice;
  }
  const Memory memory;
  const int different = compare(memory);
  measure(memory);
  return different == 0 ? 0 : 1;
}

}  // namespace
}  // namespace lgreco::cuda

int main() {
  try {
    return lgreco::cuda::run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[cuda check] CUDA: %s\n", error.what());
    return 1;
  }
}
