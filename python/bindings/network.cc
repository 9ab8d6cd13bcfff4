#include "lgreco/network.h"

#include "python/bindings/bindings.h"
#include "src/engine/frame.h"

namespace lgreco {

namespace py = pybind11;

void bind_network(py::module_& module) {
  module.def(
      "wire_seconds",
      [](double payload_bytes, int collectives, int ranks, double bandwidth, double latency) {
        const Network network{.bandwidth = bandwidth, .latency = latency};
        check(network);
        return wire_seconds(payload_bytes, collectives, ranks, network);
      },
      py::arg("payload_bytes"), py::arg("collectives"), py::arg("ranks"), py::arg("bandwidth"),
      py::arg("latency"));
  module.def("collectives_of_bucket", &collectives_of_bucket, py::arg("has_two_rounds"),
             py::arg("ranks"));
  module.attr("GLOO_MESSAGE_BYTES") = kGlooMessageBytes;
  module.attr("FRAME_BYTES") = kFrameBytes;
  module.def("coding_seconds", &coding_seconds, py::arg("encode"), py::arg("decode"),
             py::arg("ranks"));
}

}  // namespace lgreco
