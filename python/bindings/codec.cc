#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "lgreco/codec.h"
#include "lgreco/status.h"
#include "python/bindings/bindings.h"

namespace lgreco {
namespace {

namespace py = pybind11;
using Shape = std::vector<std::int64_t>;
using Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

std::span<const float> values_of(const Array& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

py::bytes encode_array(const Array& array, const Shape& dims, const std::string& spelling,
                       std::uint64_t seed, std::uint64_t step) {
  const Level level = parse_level(spelling);
  const MatrixShape shape = as_matrix(dims);
  std::vector<std::byte> payload;
  {
    const py::gil_scoped_release release;
    payload = encode(values_of(array), shape, level, {.seed = seed, .step = step, .layer = 0});
  }
  return {reinterpret_cast<const char*>(payload.data()), payload.size()};
}

Array decode_array(const std::string& payload, const Shape& dims, const std::string& spelling) {
  const Level level = parse_level(spelling);
  const MatrixShape shape = as_matrix(dims);
  std::vector<float> values;
  const Status status = decode(std::as_bytes(std::span(payload)), shape, level, {}, values);
  if (!status.is_ok()) throw ProtocolError(status.reason());
  return Array(static_cast<py::ssize_t>(values.size()), values.data());
}

std::vector<double> analyze_levels(const Array& array, const Shape& dims,
                                   const std::vector<std::string>& spellings, int pieces) {
  if (pieces < 1) {
    throw ConfigError("[analyze] pieces is " + std::to_string(pieces) + "; it must be at least 1");
  }
  std::vector<Level> levels;
  for (const std::string& spelling : spellings) levels.push_back(parse_level(spelling));
  const MatrixShape shape = as_matrix(dims);
  const std::span<const float> values = values_of(array);
  const py::gil_scoped_release release;
  return analyze(values, shape, levels, pieces);
}

}  // namespace

void bind_codec(py::module_& module) {
  module.def("encode", encode_array);
  module.def("decode", decode_array);
  module.def("analyze", analyze_levels, py::arg("values"), py::arg("shape"), py::arg("levels"),
             py::arg("pieces") = 1);
}

}  // namespace lgreco
