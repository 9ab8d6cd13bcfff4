// The Python module lgreco._torch.

#include "python/bindings/errors.h"
#include "python/bindings/torch/aggregator.h"

PYBIND11_MODULE(_torch, module) {
  lgreco::register_error_translator();
  lgreco::bind_aggregator(module);
}
