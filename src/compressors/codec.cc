#include "lgreco/codec.h"

#include <algorithm>
#include <memory>
#include <string>

#include "lgreco/status.h"
#include "src/compressors/payload.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

/// The sums of all rounds of a layer, and their payloads one after the other.
class Rounds {
 public:
  Rounds(const Level& level, const MatrixShape& shape)
      : compressor_(linear_compressor(level)), shape_(shape), count_(compressor_->rounds()) {
    for (int round = 0; round < count_; ++round) {
      sums_.emplace_back(compressor_->round_floats(shape, round));
      codecs_.push_back(factor_codec(level, shape, round));
    }
    for (std::vector<float>& sum : sums_) means_.emplace_back(sum);
  }

  /// Fill the sums of `values`. With `payload`, each is encoded at once, and the next round begins
  /// from what decoding gives.
  bool fill(std::span<const float> values, const RandomKey& key, std::span<std::byte> payload) {
    LinearState state;
    compressor_->prepare(shape_, key, state);
    for (std::size_t at = 0; at < sums_.size(); ++at) {
      compressor_->encode_round(static_cast<int>(at), values, shape_, key, state,
                                std::span(means_).first(at), sums_[at]);
      if (payload.empty()) continue;
      const auto part = take_part(at, payload);
      if (!codecs_[at]->encode(sums_[at], key, 0, part)) return false;
      std::fill(sums_[at].begin(), sums_[at].end(), 0.0f);
      if (!codecs_[at]->decode_add(part, sums_[at]).is_ok()) return false;
    }
    return true;
  }

  bool encode(const RandomKey& key, std::span<std::byte> payload) const {
    for (std::size_t at = 0; at < sums_.size(); ++at) {
      if (!codecs_[at]->encode(sums_[at], key, 0, take_part(at, payload))) return false;
    }
    return true;
  }

  Status decode(std::span<const std::byte> payload) {
    Status status = Status::ok();
    for (std::size_t at = 0; at < sums_.size() && status.is_ok(); ++at) {
      status = codecs_[at]->decode_add(take_part(at, payload), sums_[at]);
    }
    return status;
  }

  /// Bring decoded sums of ranks to where the rounds after them would have left them.
  void transform(std::span<const float> zeros, const RandomKey& key) {
    LinearState state;
    compressor_->prepare(shape_, key, state);
    for (std::size_t at = 1; at < sums_.size(); ++at) {
      std::vector<float> addend(sums_[at].size());
      compressor_->encode_round(static_cast<int>(at), zeros, shape_, key, state,
                                std::span(means_).first(at), addend);
    }
  }

  void write_layer(const RandomKey& key, std::span<float> values) const {
    compressor_->decode(shape_, key, means_, values);
  }

 private:
  template <typename Byte>
  std::span<Byte> take_part(std::size_t at, std::span<Byte>& rest) const {
    const std::size_t bytes = codecs_[at]->payload_bytes(sums_[at].size());
    const std::span<Byte> part = rest.first(bytes);
    rest = rest.subspan(bytes);
    return part;
  }

  std::unique_ptr<LinearCompressor> compressor_;
  MatrixShape shape_;
  int count_;
  std::vector<std::vector<float>> sums_;
  std::vector<std::span<float>> means_;
  std::vector<std::unique_ptr<CodedCompressor>> codecs_;
};

// Factors in bits lose too much to be encoded after all rounds: the second is made from the first
// as it arrives.
bool arrives_between(const Level& level) { return level.factor_bits != 0; }

bool encode_linear(std::span<const float> values, const MatrixShape& shape, const Level& level,
                   const RandomKey& key, std::span<std::byte> payload) {
  Rounds rounds(level, shape);
  if (arrives_between(level)) return rounds.fill(values, key, payload);
  return rounds.fill(values, key, {}) && rounds.encode(key, payload);
}

Status decode_linear(std::span<const std::byte> payload, const MatrixShape& shape,
                     const Level& level, const RandomKey& key, std::span<float> values) {
  Rounds rounds(level, shape);
  Status status = rounds.decode(payload);
  if (!status.is_ok()) return status;
  if (arrives_between(level)) rounds.transform(values, key);
  rounds.write_layer(key, values);
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
  std::vector<std::byte> payload(payload_bytes(scatter_level(level), shape));
  const bool encoded = is_coded(level.method)
                           ? coded_compressor(level)->encode(values, key, 0, payload)
                           : encode_linear(values, shape, level, key, payload);
  if (!encoded) throw ConfigError("[encode] a value is too large for '" + to_string(level) + "'");
  return payload;
}

Status decode(std::span<const std::byte> payload, const MatrixShape& shape, const Level& level,
              const RandomKey& key, std::vector<float>& values) {
  const std::size_t expected = payload_bytes(scatter_level(level), shape);
  Status size = check_size("[decode]", payload, expected);
  if (!size.is_ok()) return size;
  values.assign(shape.count(), 0.0f);
  if (!is_coded(level.method)) return decode_linear(payload, shape, level, key, values);
  return coded_compressor(level)->decode_add(payload, values);
}

}  // namespace lgreco
