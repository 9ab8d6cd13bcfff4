#include "lgreco/budget.h"

#include <pybind11/stl.h>

#include <string>

#include "python/bindings/bindings.h"

namespace lgreco {

namespace py = pybind11;

void bind_budget(py::module_& module) {
  module.def(
      "harm",
      [](const std::string& budget, double error, double norm) {
        return harm(parse_budget(budget), error, norm);
      },
      py::arg("budget"), py::arg("error"), py::arg("norm"));
}

}  // namespace lgreco
