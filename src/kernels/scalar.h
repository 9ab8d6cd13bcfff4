// The references: what each kernel computes, said plainly. Every vector variant gives the same
// bits.
#pragma once

#include "src/kernels/cast.h"
#include "src/kernels/dead_zone.h"
#include "src/kernels/elementwise.h"
#include "src/kernels/gram.h"
#include "src/kernels/lloyd_max.h"
#include "src/kernels/low_rank.h"
#include "src/kernels/moments.h"
#include "src/kernels/quantize.h"
#include "src/kernels/rounding_loss.h"
#include "src/kernels/topk.h"

namespace lgreco::kernels::scalar {

void add(const float* a, const float* b, std::size_t count, float* out);
bool add_finite(const float* a, const float* b, std::size_t count, float* out);
void subtract(const float* a, const float* b, std::size_t count, float* out);
void scale(const float* a, float factor, std::size_t count, float* out);
bool all_finite(const float* values, std::size_t count);
float max_magnitude(const float* values, std::size_t count);
double sum_squares(const float* values, std::size_t count);

void to_bf16(const float* values, std::size_t count, std::uint16_t* out);
void from_bf16(const std::uint16_t* values, std::size_t count, float* out);
void to_f16(const float* values, std::size_t count, std::uint16_t* out);
void from_f16(const std::uint16_t* values, std::size_t count, float* out);
bool to_bf16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out);
bool to_f16_keep_loss(const float* addend, std::size_t count, float* values, std::uint16_t* out);

Range range_of(const float* values, std::size_t count);
bool add_and_find_range(const float* addend, std::size_t count, float* values, Range& range);
void quantize_pack(const float* values, std::size_t count, const Grid& grid,
                   const RandomStream* stream, std::uint32_t first, std::uint8_t* packed);
void quantize_pack_keep_loss(float* values, std::size_t count, const Grid& grid,
                             const RandomStream* stream, std::uint32_t first, std::uint8_t* packed);
void unpack_dequantize_add(const std::uint8_t* packed, std::size_t count, const Grid& grid,
                           float* accumulator);

bool moments_of(const float* values, std::size_t count, Moments& moments);
bool add_and_find_moments(const float* addend, std::size_t count, float* values, Moments& moments);

void lloyd_max_pack(const float* values, std::size_t count, const LloydMaxGrid& grid,
                    std::uint8_t* packed);
void lloyd_max_pack_keep_loss(float* values, std::size_t count, const LloydMaxGrid& grid,
                              std::uint8_t* packed);
void lloyd_max_unpack_add(const std::uint8_t* packed, std::size_t count, const LloydMaxGrid& grid,
                          float* accumulator);
float lloyd_max_loss_of(float value, const LloydMaxGrid& grid);
float lloyd_max_loss(const float* values, std::size_t count, const LloydMaxGrid& grid);

TopKThreshold find_threshold(const float* values, std::size_t count, std::size_t k);
bool add_and_find_threshold(const float* addend, std::size_t count, std::size_t k, float* values,
                            TopKThreshold& threshold);

void multiply(const float* matrix, std::size_t rows, std::size_t cols, const float* right,
              std::size_t rank, float* left);
void add_and_multiply(const float* addend, std::size_t rows, std::size_t cols, const float* right,
                      std::size_t rank, float* matrix, float* left);
void multiply_transposed(const float* matrix, std::size_t rows, std::size_t cols, const float* left,
                         std::size_t rank, float* right);
void reconstruct(const float* left, const float* right, std::size_t rows, std::size_t cols,
                 std::size_t rank, float* matrix);
void reconstruct_keep_loss(const float* left, const float* right, const float* own,
                           std::size_t rows, std::size_t cols, std::size_t rank, float* matrix,
                           float* loss);

void gram(const float* matrix, std::size_t rows, std::size_t cols, double* gram);

/// The level that is coded; with raw bits they go to `raw`.
std::int32_t level_of(float value, const DeadZone& zone, std::uint8_t* raw);
/// The inverse.
std::int32_t joined(std::int32_t level, const std::uint8_t* raw, const DeadZone& zone);
/// What a magnitude stands for.
float value_of(float magnitude, const DeadZone& zone);
float sent_of(float value, const DeadZone& zone);
std::size_t count_magnitudes(const float* values, const float* addend, std::size_t count,
                             std::uint32_t* histogram, std::size_t stride = 1);
std::size_t add_and_find_tokens(const float* values, const float* addend, std::size_t count,
                                float* sums, const DeadZone& zone, std::uint32_t* tokens,
                                std::uint8_t* raw);
void keep_loss(float* values, std::size_t count, const DeadZone& zone);
bool add_levels(const std::int16_t* levels, const std::uint8_t* raw, std::size_t count,
                const DeadZone& zone, float* accumulator);

float rounding_loss_of(float value, const Grid& grid, bool stochastic);
float rounding_loss(const float* values, std::size_t count, const Grid& grid, bool stochastic);

}  // namespace lgreco::kernels::scalar
