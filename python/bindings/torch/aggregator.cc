#include "python/bindings/torch/aggregator.h"

#include <torch/csrc/utils/pybind.h>

#include <optional>

#include "adaptors/torch/float_environment.h"
#include "adaptors/torch/tensor_bridge.h"
#include "adaptors/torch/torch_aggregator.h"
#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "python/bindings/plan_dict.h"
#include "python/bindings/torch/errors.h"
#include "python/bindings/torch/settings.h"
#include "python/bindings/torch/state_dict.h"

namespace lgreco {
namespace {

namespace py = pybind11;

using NamedTensors = TorchAggregator::NamedTensors;
using Group = TorchAggregator::Group;

template <typename Function>
auto unlocked(Function function) {
  const DefaultFloatEnvironment environment;
  const py::gil_scoped_release release;
  return function();
}

// The destructor waits for the bucket in flight, whose tensors may need the GIL to be freed. The
// last owner is this module's object or DDP's reducer; both are freed by Python.
void delete_without_gil(Aggregator* aggregator) {
  if (PyGILState_Check() != 0) {
    unlocked([&] { delete aggregator; });
  } else {
    delete aggregator;
  }
}

// What can be said against the arguments without the other ranks. Once there are process groups, a
// rank that fails closes its connections to ranks that still make theirs.
void check_arguments(const NamedTensors& layers, const std::string& method, const py::dict& policy,
                     const py::dict& settings) {
  const AggregatorOptions options = options_from(method, policy, settings);
  check(options.method);
  check(options.policy);
  for (const auto& [name, tensor] : layers) layer_spec(name, tensor);
}

class PythonAggregator {
 public:
  PythonAggregator(const NamedTensors& layers, const std::string& method, const py::dict& policy,
                   const py::dict& settings, const std::vector<Group>& groups,
                   const std::optional<Group>& agreement, const std::optional<Group>& node,
                   const std::optional<Group>& device_node, const std::vector<int>& nodes,
                   const std::vector<int>& owners, bool layers_are_parameters) {
    std::optional<TorchAggregator::NodeFirst> node_first;
    if (node) node_first = {*node, device_node, nodes, owners};
    AggregatorOptions options = options_from(method, policy, settings);
    unlocked([&] {
      aggregator_.emplace(layers, std::move(options), groups, agreement, node_first,
                          layers_are_parameters, delete_without_gil);
    });
  }

  void register_hook(const std::shared_ptr<c10d::Reducer>& reducer,
                     const std::vector<at::Tensor>& parameters, bool may_be_unused) {
    aggregator_->register_hook(*reducer, parameters, may_be_unused, autograd_translator());
  }

  void average(const std::map<std::string, at::Tensor>& tensors, const std::string& problem) {
    unlocked([&] { aggregator_->average(tensors, problem); });
  }

  void submit(const at::Tensor& buffer, const std::vector<TorchAggregator::Placed>& layers) {
    unlocked([&] { aggregator_->submit(buffer, layers); });
  }

  void finish_step(const std::string& problem) {
    unlocked([&] { aggregator_->finish_step(problem); });
  }

  int rank() const { return engine().rank(); }
  int size() const { return engine().size(); }

  void set_grad_scale(double scale) {
    unlocked([&] { engine().set_grad_scale(scale); });
  }

  void on_learning_rate_change(double before, double now) {
    unlocked([&] { engine().on_learning_rate_change(before, now); });
  }

  void pause(bool paused) {
    unlocked([&] { engine().pause(paused); });
  }

  void reset() {
    unlocked([&] { engine().reset(); });
  }

  bool discard_last_step() {
    return unlocked([&] { return engine().discard_last_step(); });
  }

  py::dict notices() const {
    const Notices notices = engine().notices();
    py::dict dict;
    dict["dropped_residuals"] = notices.dropped_residuals;
    dict["unapplied_steps"] = notices.unapplied_steps;
    dict["large_residual_steps"] = notices.large_residual_steps;
    return dict;
  }

  py::dict latest() const {
    const Latest latest = engine().latest();
    py::dict dict = stats_to_dict(latest.stats);
    dict["plan_version"] = latest.plan_version;
    return dict;
  }

  bool in_critical_regime() const {
    return unlocked([&] { return engine().in_critical_regime(); });
  }

  py::dict memory() const {
    const MemoryUse memory = unlocked([&] { return aggregator_->memory(); });
    py::dict dict;
    dict["residuals"] = memory.residuals;
    dict["factors"] = memory.factors;
    dict["staging"] = memory.staging;
    dict["windows"] = memory.windows;
    return dict;
  }

  void start_trace() { engine().start_trace(); }

  // Chrome's trace format, "complete" events; times in microseconds.
  py::list stop_trace() {
    py::list events;
    for (const TraceEvent& event : unlocked([&] { return engine().stop_trace(); })) {
      using Microseconds = std::chrono::duration<double, std::micro>;
      py::dict dict;
      dict["name"] = event.name;
      dict["tid"] = event.track;
      dict["ts"] = Microseconds(event.begin.time_since_epoch()).count();
      dict["dur"] = Microseconds(event.end - event.begin).count();
      dict["args"] = py::dict(py::arg("step") = event.step, py::arg("bucket") = event.bucket);
      events.append(dict);
    }
    return events;
  }

  py::dict plan() const {
    return plan_to_dict(unlocked([&] { return engine().plan(); }));
  }

  py::dict stats() const {
    return stats_to_dict(unlocked([&] { return engine().stats(); }));
  }

  py::dict state() const {
    return state_to_dict(unlocked([&] { return engine().state(); }), engine().layers());
  }

  py::dict portable_state() {
    return state_to_dict(unlocked([&] { return engine().portable_state(); }), engine().model());
  }

  std::vector<py::bytes> gather(const std::string& own) {
    const auto texts = unlocked([&] { return engine().gather(own); });
    return {texts.begin(), texts.end()};
  }

  /// Collective. `states` is this rank's own, a portable one or, for another number of ranks, those
  /// of all old ranks (`change` "mean" or "keep") or any of them ("reset"). With a `problem` this
  /// rank has nothing to load.
  void load_state(const std::vector<py::dict>& states, const std::string& change,
                  const std::string& problem) {
    std::optional<AggregatorState> state;
    std::string reason = problem;
    try {
      if (reason.empty()) state = combined(states, change);
    } catch (const std::exception& error) {  // pybind11 has more kinds than are worth telling apart
      reason = error.what();
    }
    // Also without a state: the other ranks must know.
    unlocked(
        [&] { state ? engine().load_state(std::move(*state)) : engine().refuse_state(reason); });
  }

 private:
  Aggregator& engine() { return aggregator_->engine(); }
  const Aggregator& engine() const { return aggregator_->engine(); }

  AggregatorState combined(const std::vector<py::dict>& states, const std::string& change) const {
    std::vector<AggregatorState> loaded;
    for (const py::dict& state : states) loaded.push_back(state_from_dict(state));
    std::vector<std::string> layers;
    for (const LayerSpec& layer : engine().layers()) layers.push_back(layer.name);
    const int rank = engine().rank(), size = engine().size();
    if (loaded.front().is_portable()) {
      for (LayerState& layer : loaded.front().layers) {
        if (change != "reset") break;
        layer.residual = layer.window = {};
        layer.window_steps = 0;
      }
      return std::move(loaded.front());
    }
    if (change == "keep") return keep_residuals(loaded, layers, rank, size);
    if (change == "mean") return resize(loaded, layers, rank, size);
    if (change == "reset") return reset_residuals(loaded, layers, rank, size);
    return std::move(loaded.front());
  }

  std::optional<TorchAggregator> aggregator_;
};

}  // namespace

void bind_aggregator(py::module_& module) {
  module.def(
      "parameters_of",
      [](const std::shared_ptr<c10d::Reducer>& reducer) {
        return synchronised_parameters(*reducer);
      },
      py::arg("reducer"));
  module.def("check_arguments", check_arguments, py::kw_only(), py::arg("layers"),
             py::arg("method"), py::arg("policy"), py::arg("settings"));
  using Self = PythonAggregator;
  py::class_<Self>(module, "Aggregator")
      .def(py::init<const NamedTensors&, const std::string&, const py::dict&, const py::dict&,
                    const std::vector<Group>&, const std::optional<Group>&,
                    const std::optional<Group>&, const std::optional<Group>&,
                    const std::vector<int>&, const std::vector<int>&, bool>(),
           py::kw_only(), py::arg("layers"), py::arg("method"), py::arg("policy"),
           py::arg("settings"), py::arg("groups"), py::arg("agreement"), py::arg("node"),
           py::arg("device_node"), py::arg("nodes"), py::arg("owners"),
           py::arg("layers_are_parameters"))
      .def("register_hook", &Self::register_hook, py::arg("reducer"), py::arg("parameters"),
           py::arg("may_be_unused"))
      .def("average_", &Self::average, py::arg("tensors"), py::arg("problem") = "")
      .def("submit", &Self::submit, py::arg("buffer"), py::arg("layers"))
      .def("finish_step", &Self::finish_step, py::arg("problem"))
      .def("rank", &Self::rank)
      .def("size", &Self::size)
      .def("set_grad_scale", &Self::set_grad_scale, py::arg("scale"))
      .def("on_learning_rate_change", &Self::on_learning_rate_change, py::arg("before"),
           py::arg("now"))
      .def("pause", &Self::pause, py::arg("paused"))
      .def("reset", &Self::reset)
      .def("discard_last_step", &Self::discard_last_step)
      .def("notices", &Self::notices)
      .def("latest", &Self::latest)
      .def("in_critical_regime", &Self::in_critical_regime)
      .def("memory", &Self::memory)
      .def("start_trace", &Self::start_trace)
      .def("stop_trace", &Self::stop_trace)
      .def("plan", &Self::plan)
      .def("stats", &Self::stats)
      .def("state", &Self::state)
      .def("portable_state", &Self::portable_state)
      .def("gather", &Self::gather, py::arg("own"))
      .def("load_state", &Self::load_state, py::arg("states"), py::arg("change"),
           py::arg("problem"));
}

}  // namespace lgreco
