#include <pybind11/stl.h>

#include "lgreco/level.h"
#include "lgreco/method.h"
#include "lgreco/plan.h"
#include "python/bindings/bindings.h"
#include "src/engine/cost_table.h"

namespace lgreco {
namespace {

namespace py = pybind11;
using Shape = std::vector<std::int64_t>;

py::dict level_to_dict(const std::string& spelling) {
  const Level level = parse_level(spelling);
  const MethodEntry& entry = entry_of(level.method);
  py::dict values;  // in the order in which they are written
  if (!entry.row.parameter_name.empty()) {
    values[py::str(std::string(entry.row.parameter_name))] = spell_parameter(level);
  }
  for (const Setting& setting : entry.settings) {
    values[py::str(std::string(setting.key))] = setting.spell(level);
  }
  py::dict parts;
  parts["method"] = entry.row.name;
  parts["values"] = values;
  return parts;
}

std::vector<std::string> spell(const std::vector<Level>& levels) {
  std::vector<std::string> spellings;
  for (const Level& level : levels) spellings.push_back(to_string(level));
  return spellings;
}

DType parse_dtype(const std::string& name) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    if (name_of(dtype) == name) return dtype;
  }
  throw py::value_error("dtype is fp32, bf16 or fp16");
}

std::string letter_of(Method method) {
  const char letter = entry_of(method).letter;
  return letter == 0 ? "" : std::string(1, letter);
}

py::list table() {
  py::list rows;
  for (const MethodRow& row : method_table()) {
    py::dict entry;
    entry["name"] = row.name;
    entry["wire_version"] = row.wire_version;
    entry["coded"] = row.coded;
    entry["parameter"] = row.parameter_name;
    entry["min"] = row.min_parameter;
    entry["max"] = row.max_parameter;
    entry["example"] = row.example;
    entry["letter"] = letter_of(row.method);
    rows.append(entry);
  }
  return rows;
}

std::uint64_t hash_of(const std::vector<std::pair<std::string, std::string>>& levels) {
  Plan plan;
  for (const auto& [name, level] : levels) {
    plan.layers.push_back(name);
    plan.levels.push_back(parse_level(level));
  }
  return plan.hash();
}

}  // namespace

void bind_levels(py::module_& module) {
  module.def("normalise_level", [](const std::string& s) { return to_string(parse_level(s)); });
  module.def("parse_level", level_to_dict);
  module.def("method_table", table);
  module.def("plan_hash", hash_of);
  module.def(
      "resolve",
      [](const std::string& level, const Shape& shape, const std::string& dtype) {
        const LayerSpec layer{.name = "", .shape = shape, .dtype = parse_dtype(dtype)};
        return to_string(resolve(parse_level(level), layer));
      },
      py::arg("level"), py::arg("shape"), py::arg("dtype") = "fp32");
  module.def("neighbours", [](const std::string& s) { return spell(neighbours(parse_level(s))); });
  module.def("mixed_levels",
             [](const std::string& s) { return spell(mixed_levels(parse_level(s))); });
  module.def("candidates", [](const std::string& reference, const std::vector<std::string>& levels,
                              const Shape& shape, const std::string& dtype) {
    LGrecoPolicy policy;
    for (const std::string& level : levels) policy.candidates.push_back(parse_level(level));
    const LayerSpec layer{.name = "", .shape = shape, .dtype = parse_dtype(dtype)};
    return spell(candidates_of(policy, std::vector{parse_level(reference)}, layer));
  });
  module.def("payload_bytes", [](const std::string& level, const Shape& shape) {
    return payload_bytes(parse_level(level), as_matrix(shape));
  });
  module.def("elements_sent", [](const std::string& spelling, const Shape& shape) {
    const Level level = parse_level(spelling);
    return entry_of(level.method).elements_sent(level, as_matrix(shape));
  });
}

}  // namespace lgreco
