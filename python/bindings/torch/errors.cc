#include "python/bindings/torch/errors.h"

#include <pybind11/pybind11.h>
#include <torch/csrc/Exceptions.h>

#include "lgreco/status.h"

namespace lgreco {
namespace {

namespace py = pybind11;

// Autograd turns an exception of a hook into the Python type that it names.
class TypedError final : public torch::PyTorchError {
 public:
  TypedError(const std::exception& error, PyObject* type)
      : PyTorchError(error.what()), type_(type) {}
  PyObject* python_type() override { return type_; }

 private:
  PyObject* type_;  // a class of lgreco.errors, alive as long as the module is
};

// Looked up once, with the GIL, so that a hook's thread need not take it.
struct ErrorTypes {
  PyObject* error;
#define LGRECO_MEMBER(name, Class) PyObject* name;
  LGRECO_ERRORS(LGRECO_MEMBER)
#undef LGRECO_MEMBER

  static ErrorTypes look_up() {
    const py::module_ errors = py::module_::import("lgreco.errors");
    const auto type = [&](const char* name) { return errors.attr(name).ptr(); };
#define LGRECO_TYPE(name, Class) , type(#Class)
    return {type("Error") LGRECO_ERRORS(LGRECO_TYPE)};
#undef LGRECO_TYPE
  }

  PyObject* type_of(const std::exception& failure) const {
#define LGRECO_IF(name, Class) \
  if (dynamic_cast<const Class*>(&failure) != nullptr) return name;
    LGRECO_ERRORS(LGRECO_IF)
#undef LGRECO_IF
    return error;
  }

  std::exception_ptr translate(const std::exception_ptr& failure) const {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      return std::make_exception_ptr(TypedError(e, type_of(e)));
    }
  }
};

}  // namespace

std::function<std::exception_ptr(std::exception_ptr)> autograd_translator() {
  return [types = ErrorTypes::look_up()](const std::exception_ptr& failure) {
    return types.translate(failure);
  };
}

}  // namespace lgreco
