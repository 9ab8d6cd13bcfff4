// The Python module lgreco._torch.

#include <pybind11/pybind11.h>
#include <torch/version.h>

#include <string>

#include "python/bindings/errors.h"
#include "python/bindings/torch/aggregator.h"

namespace {

// Another torch has other types under the same names. Found here, it is one error that says so.
void require_torch_of_the_build() {
  const auto torch = pybind11::module_::import("torch");
  const auto version = pybind11::str(torch.attr("__version__")).cast<std::string>();
  if (version.substr(0, version.find('+')) != TORCH_VERSION) {
    throw pybind11::import_error("it was built with torch " TORCH_VERSION ", and this is torch " +
                                 version);
  }
}

}  // namespace

PYBIND11_MODULE(_torch, module) {
  require_torch_of_the_build();
  lgreco::register_error_translator();
  lgreco::bind_aggregator(module);
}
