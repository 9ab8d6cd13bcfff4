#include "src/compressors/topk_values.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/compressors/choose_grid.h"
#include "src/compressors/payload.h"
#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/lloyd_max_table.h"
#include "src/kernels/spare_bits.h"

namespace lgreco {

std::size_t TopKValues::bytes(std::size_t count, int bits) {
  return bytes_in_buckets(count, kBlock, [&](std::size_t values) {
    return sizeof(std::uint16_t) + kernels::packed_bytes(values, bits);
  });
}

TopKValues::TopKValues(int bits, float least) : bits_(bits), base_(kernels::bf16_below(least)) {}

TopKValues TopKValues::read(const std::byte* header, int bits) {
  TopKValues values(bits, 0);
  std::memcpy(&values.base_, header, kHeader);
  return values;
}

void TopKValues::write(std::byte* header) const { std::memcpy(header, &base_, kHeader); }

bool TopKValues::is_valid() const {
  return (base_ & 0x8000) == 0 && std::isfinite(kernels::bf16_value(base_));
}

bool TopKValues::encode(std::span<float> values, std::byte* out) const {
  for (std::size_t at = 0; at < values.size(); at += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - at);
    if (!encode_block(values.subspan(at, count), out)) return false;
    out += bytes(count, bits_);
  }
  return true;
}

std::optional<kernels::LloydMaxGrid> TopKValues::grid_of_block(
    std::span<const float> values) const {
  const float base = kernels::bf16_value(base_);
  const bool has_zero = base == 0;  // so that zeros that are kept stay zero
  float excess[kBlock];
  std::transform(values.begin(), values.end(), excess,
                 [&](float value) { return std::abs(value) - base; });
  kernels::Moments moments;
  if (!kernels::moments_of(excess, values.size(), moments)) return {};
  kernels::LloydMaxGrid grid{bits_, kernels::Law::normal, has_zero, 0};
  if (moments.count > 0) {
    if (!has_zero) moments.count = values.size();
    grid = choose_grid(moments, has_zero, bits_, kernels::lloyd_max_table());
  }
  grid.offset = base;
  if (!std::isfinite(largest_of(grid, levels_of(grid)))) return {};
  return grid;
}

bool TopKValues::encode_block(std::span<float> values, std::byte* out) const {
  const auto grid = grid_of_block(values);
  if (!grid) return false;
  const std::uint16_t header = header_of(*grid);
  std::memcpy(out, &header, sizeof header);
  auto* codes = reinterpret_cast<std::uint8_t*>(out) + sizeof header;
  kernels::LloydMaxGrid places = *grid;
  if (places.scale == 0) places.scale = 1;  // of no matter: all magnitudes are the base
  kernels::lloyd_max_pack(values.data(), values.size(), places, codes);
  std::fill(values.begin(), values.end(), 0.0f);
  kernels::lloyd_max_unpack_add(codes, values.size(), *grid, values.data());
  return true;
}

double TopKValues::squared_loss(std::span<const float> values) const {
  double loss = 0;
  for (std::size_t at = 0; at < values.size(); at += kBlock) {
    const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
    const auto grid = grid_of_block(block);
    if (!grid) return std::numeric_limits<double>::infinity();
    if (grid->scale == 0) continue;  // magnitudes are exactly the base
    float lost[kBlock];
    std::uint8_t codes[kBlock];
    std::copy(block.begin(), block.end(), lost);
    kernels::lloyd_max_pack_keep_loss(lost, block.size(), *grid, codes, {lost, lost});
    loss += kernels::sum_squares(lost, block.size());
  }
  return loss;
}

bool TopKValues::decode(const std::byte* in, std::span<float> values) const {
  std::uint16_t header;
  std::memcpy(&header, in, sizeof header);
  kernels::LloydMaxGrid grid = grid_of(header, bits_);
  grid.offset = kernels::bf16_value(base_);
  if (!std::isfinite(grid.scale) || !std::isfinite(largest_of(grid, levels_of(grid))) ||
      grid.has_zero != (grid.offset == 0) ||
      !kernels::spare_bits_are_zero(in + sizeof header,
                                    values.size() * static_cast<std::size_t>(bits_))) {
    return false;
  }
  std::fill(values.begin(), values.end(), 0.0f);
  kernels::lloyd_max_unpack_add(reinterpret_cast<const std::uint8_t*>(in) + sizeof header,
                                values.size(), grid, values.data());
  return true;
}

}  // namespace lgreco
