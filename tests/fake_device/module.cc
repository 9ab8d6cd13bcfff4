// The Python module _fake_device: the device is there once it is imported.

#include <torch/csrc/utils/pybind.h>

#include "tests/fake_device/clocks.h"
#include "tests/fake_device/collectives.h"
#include "tests/fake_device/mapping.h"
#include "tests/fake_device/pinned_memory.h"
#include "tests/fake_device/streams.h"

namespace py = pybind11;

PYBIND11_MODULE(_fake_device, module) {
  using std::chrono::microseconds;
  using NoGil = py::call_guard<py::gil_scoped_release>;
  module.attr("DEVICES") = int{fake_device::kDevices};
  module.def(
      "set_delays",
      [](int on_default, int on_others) {
        fake_device::set_delays(microseconds(on_default), microseconds(on_others));
      },
      py::arg("on_default_us"), py::arg("on_others_us"));
  module.def("hold_back", fake_device::hold_back);
  module.def("resume", fake_device::resume);
  module.def("submissions", fake_device::submissions);
  module.def("set_pinning_fails", fake_device::set_pinning_fails, py::arg("fails"));
  module.def("take_races", [] {
    fake_device::report_touches();
    return fake_device::take_races();
  });
  module.def(
      "synchronize",
      [](int device) { fake_device::synchronize_device(static_cast<c10::DeviceIndex>(device)); },
      py::arg("device"), NoGil());
  module.def("collectives_over", fake_device::collectives_over, py::arg("gloo"));
}
