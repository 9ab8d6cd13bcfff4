// The engine's options from dicts, as lgreco.settings and lgreco.policies make them.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "lgreco/options.h"

namespace lgreco {

/// REQUIRES: the GIL, and dicts that Python has checked. Throws ConfigError on a level that is no
/// spelling of one.
AggregatorOptions options_from(const std::string& method, const pybind11::dict& policy,
                               const pybind11::dict& settings);

}  // namespace lgreco
