// Turns the exceptions of lgreco/status.h into the classes of lgreco.errors, in every module alike.
#pragma once

#include <pybind11/pybind11.h>

#include "lgreco/status.h"

namespace lgreco {

inline void set_python_error(const char* type, const std::exception& error) {
  const pybind11::object python_type = pybind11::module_::import("lgreco.errors").attr(type);
  pybind11::set_error(python_type, error.what());
}

/// Call once in each module.
inline void register_error_translator() {
  pybind11::register_exception_translator([](std::exception_ptr failure) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const ConfigError& e) {
      set_python_error("ConfigError", e);
    } catch (const MismatchError& e) {
      set_python_error("MismatchError", e);
    } catch (const PeerError& e) {
      set_python_error("PeerError", e);
    } catch (const ProtocolError& e) {
      set_python_error("ProtocolError", e);
    } catch (const StateError& e) {
      set_python_error("StateError", e);
    } catch (const Error& e) {
      set_python_error("Error", e);
    }
  });
}

}  // namespace lgreco
