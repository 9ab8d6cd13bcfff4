// Turns the exceptions of lgreco/status.h into the classes of lgreco.errors, in every module alike.
#pragma once

#include <pybind11/pybind11.h>

#include "lgreco/status.h"

namespace lgreco {

/// Name of the class of lgreco.errors.
inline const char* python_name_of(const Error& error) {
#define LGRECO_IF(name, Class) \
  if (dynamic_cast<const Class*>(&error) != nullptr) return #Class;
  LGRECO_ERRORS(LGRECO_IF)
#undef LGRECO_IF
  return "Error";
}

/// Call once in each module.
inline void register_error_translator() {
  pybind11::register_exception_translator([](std::exception_ptr failure) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const Error& error) {
      const auto errors = pybind11::module_::import("lgreco.errors");
      pybind11::set_error(errors.attr(python_name_of(error)), error.what());
    }
  });
}

}  // namespace lgreco
