// Aggregator as Python sees it: settings and results are plain dicts, levels are spellings.
#pragma once

#include <pybind11/pybind11.h>

namespace lgreco {

void bind_aggregator(pybind11::module_& module);

}  // namespace lgreco
