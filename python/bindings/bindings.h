// The parts of the module lgreco._core, each in the file of its name.
#pragma once

#include <pybind11/pybind11.h>

namespace lgreco {

void bind_budget(pybind11::module_& module);
void bind_levels(pybind11::module_& module);
void bind_codec(pybind11::module_& module);
void bind_planner(pybind11::module_& module);
void bind_plans(pybind11::module_& module);
void bind_network(pybind11::module_& module);

}  // namespace lgreco
