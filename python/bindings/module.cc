// The Python module lgreco._core. Needs no torch.

#include "lgreco/options.h"
#include "python/bindings/bindings.h"
#include "python/bindings/errors.h"

PYBIND11_MODULE(_core, module) {
  module.attr("__version__") = LGRECO_VERSION;
  module.attr("LONGEST_TIMEOUT_SECONDS") =
      std::chrono::duration<double>(lgreco::kLongestTimeout).count();
  lgreco::register_error_translator();
  lgreco::bind_budget(module);
  lgreco::bind_levels(module);
  lgreco::bind_codec(module);
  lgreco::bind_planner(module);
  lgreco::bind_plans(module);
  lgreco::bind_network(module);
}
