#include "lgreco/codec.h"

#include <string>

#include "lgreco/status.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

std::vector<std::span<float>> rounds_in(std::span<float> floats, const LinearCompressor& compressor,
                                        const MatrixShape& shape) {
  std::vector<std::span<float>> rounds;
  std::size_t at = 0;
  for (int round = 0; round < compressor.rounds(); ++round) {
    const std::size_t count = compressor.round_floats(shape, round);
    rounds.push_back(floats.subspan(at, count));
    at += count;
  }
  return rounds;
}

bool encode_linear(std::span<const float> values, const MatrixShape& shape, const Level& level,
                   const RandomKey& key, std::span<std::byte> payload) {
  const auto compressor = linear_compressor(level);
  LinearState state;
  compressor->prepare(shape, key, state);
  std::vector<float> floats(payload.size() / size_of(level.factors));
  const auto rounds = rounds_in(floats, *compressor, shape);
  for (int round = 0; round < compressor->rounds(); ++round) {
    const auto done = static_cast<std::size_t>(round);
    compressor->encode_round(round, values, shape, key, state, std::span(rounds).first(done),
                             rounds[done]);
  }
  return factor_codec(level)->encode(floats, key, 0, payload);
}

Status decode_linear(std::span<const std::byte> payload, const MatrixShape& shape,
                     const Level& level, const RandomKey& key, std::span<float> values) {
  std::vector<float> floats(payload.size() / size_of(level.factors));
  Status status = factor_codec(level)->decode_add(payload, floats);
  if (!status.is_ok()) return status;
  const auto compressor = linear_compressor(level);
  compressor->decode(shape, key, rounds_in(floats, *compressor, shape), values);
  if (kernels::all_finite(values.data(), values.size())) return status;
  return Status::corrupt("[decode] payload holds a non-finite value");
}

}  // namespace

std::vector<std::byte> encode(std::span<const float> values, const MatrixShape& shape,
                              const Level& level, const RandomKey& key) {
  if (values.size() != shape.count()) {
    throw ConfigError("[encode] " + std::to_string(values.size()) + " values for a layer of " +
                      std::to_string(shape.count()));
  }
  std::vector<std::byte> payload(payload_bytes(level, shape));
  const bool encoded = is_coded(level.method)
                           ? coded_compressor(level)->encode(values, key, 0, payload)
                           : encode_linear(values, shape, level, key, payload);
  if (!encoded) throw ConfigError("[encode] a value is too large for '" + to_string(level) + "'");
  return payload;
}

Status decode(std::span<const std::byte> payload, const MatrixShape& shape, const Level& level,
              const RandomKey& key, std::vector<float>& values) {
  const std::size_t expected = payload_bytes(level, shape);
  if (payload.size() != expected) {
    return Status::corrupt("[decode] payload has " + std::to_string(payload.size()) +
                           " bytes instead of " + std::to_string(expected));
  }
  values.assign(shape.count(), 0.0f);
  if (!is_coded(level.method)) return decode_linear(payload, shape, level, key, values);
  return coded_compressor(level)->decode_add(payload, values);
}

}  // namespace lgreco
