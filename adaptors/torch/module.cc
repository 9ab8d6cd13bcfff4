// The Python module lgreco._torch.

#include "adaptors/torch/aggregator_binding.h"
#include "python/bindings/errors.h"

PYBIND11_MODULE(_torch, module) {
  lgreco::register_error_translator();
  lgreco::bind_aggregator(module);
}
