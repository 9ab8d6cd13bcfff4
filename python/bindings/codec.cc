#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>

#include "lgreco/compressor.h"
#include "lgreco/status.h"
#include "python/bindings/bindings.h"

namespace lgreco {
namespace {

namespace py = pybind11;
using Shape = std::vector<std::int64_t>;
using Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

std::span<const float> values_of(const Array& array, const MatrixShape& shape) {
  const std::span<const float> values(array.data(), static_cast<std::size_t>(array.size()));
  if (values.size() != shape.count()) {
    throw ConfigError("[encode] " + std::to_string(values.size()) + " values for a layer of " +
                      std::to_string(shape.count()));
  }
  return values;
}

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

// The factors in their type on the wire, as the payload of a cast or dense level.
std::unique_ptr<CodedCompressor> factor_codec(const Level& level) {
  if (level.factors == DType::f32) return coded_compressor(Level{});
  return coded_compressor(Level{.method = Method::cast, .values = level.factors});
}

// False when a factor overflows its type on the wire.
bool encode_linear(std::span<const float> values, const MatrixShape& shape, const Level& level,
                   const RandomKey& key, std::span<std::byte> payload) {
  const auto compressor = linear_compressor(level);
  LinearState state;
  compressor->prepare(shape, key, state);
  std::vector<float> floats(payload.size() / size_of(level.factors));
  const auto rounds = rounds_in(floats, *compressor, shape);
  for (int round = 0; round < compressor->rounds(); ++round) {
    const auto done = static_cast<std::size_t>(round);
    compressor->encode_round(round, values, shape, state, std::span(rounds).first(done),
                             rounds[done]);
  }
  return factor_codec(level)->encode(floats, key, 0, payload);
}

py::bytes encode(const Array& array, const Shape& dims, const std::string& spelling,
                 std::uint64_t seed, std::uint64_t step) {
  const Level level = parse_level(spelling);
  const MatrixShape shape = as_matrix(dims);
  const std::span<const float> values = values_of(array, shape);
  const RandomKey key{.seed = seed, .step = step, .layer = 0};
  std::vector<std::byte> payload(payload_bytes(level, shape));
  {
    const py::gil_scoped_release release;
    const bool encoded = is_coded(level.method)
                             ? coded_compressor(level)->encode(values, key, 0, payload)
                             : encode_linear(values, shape, level, key, payload);
    if (!encoded) throw ConfigError("[encode] a value is too large for '" + spelling + "'");
  }
  return {reinterpret_cast<const char*>(payload.data()), payload.size()};
}

Status decode_linear(std::span<const std::byte> payload, const MatrixShape& shape,
                     const Level& level, std::span<float> values) {
  std::vector<float> floats(payload.size() / size_of(level.factors));
  const Status status = factor_codec(level)->decode_add(payload, floats);
  if (!status.is_ok()) return status;
  const auto compressor = linear_compressor(level);
  compressor->decode(shape, rounds_in(floats, *compressor, shape), values);
  for (float value : values) {
    if (!std::isfinite(value)) return Status::corrupt("[decode] payload holds a non-finite value");
  }
  return Status::ok();
}

Array decode(const std::string& payload, const Shape& dims, const std::string& spelling) {
  const Level level = parse_level(spelling);
  const MatrixShape shape = as_matrix(dims);
  // Before memory is taken for it.
  if (payload.size() != payload_bytes(level, shape)) {
    throw ProtocolError("[decode] payload has " + std::to_string(payload.size()) +
                        " bytes instead of " + std::to_string(payload_bytes(level, shape)));
  }
  Array array(static_cast<py::ssize_t>(shape.count()));
  const std::span<float> values(array.mutable_data(), shape.count());
  std::fill(values.begin(), values.end(), 0.0f);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(payload));
  const Status status = is_coded(level.method) ? coded_compressor(level)->decode_add(bytes, values)
                                               : decode_linear(bytes, shape, level, values);
  if (!status.is_ok()) throw ProtocolError(status.reason());
  return array;
}

std::vector<double> analyze_levels(const Array& array, const Shape& dims,
                                   const std::vector<std::string>& spellings, int pieces) {
  if (pieces < 1) {
    throw ConfigError("[analyze] pieces is " + std::to_string(pieces) + "; it must be at least 1");
  }
  std::vector<Level> levels;
  for (const std::string& spelling : spellings) levels.push_back(parse_level(spelling));
  const MatrixShape shape = as_matrix(dims);
  const std::span<const float> values = values_of(array, shape);
  const py::gil_scoped_release release;
  return analyze(values, shape, levels, pieces);
}

}  // namespace

void bind_codec(py::module_& module) {
  module.def("encode", encode);
  module.def("decode", decode);
  module.def("analyze", analyze_levels, py::arg("values"), py::arg("shape"), py::arg("levels"),
             py::arg("pieces") = 1);
}

}  // namespace lgreco
