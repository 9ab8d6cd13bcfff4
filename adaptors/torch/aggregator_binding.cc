#include "adaptors/torch/aggregator_binding.h"

#include <torch/csrc/Exceptions.h>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <optional>

#include "adaptors/torch/c10d_communicator.h"
#include "adaptors/torch/comm_hook.h"
#include "adaptors/torch/tensor_bridge.h"
#include "lgreco/aggregator.h"
#include "lgreco/checkpoint.h"
#include "lgreco/planner.h"
#include "lgreco/status.h"
#include "python/bindings/plan_dict.h"

namespace lgreco {
namespace {

namespace py = pybind11;

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
using Group = c10::intrusive_ptr<c10d::ProcessGroup>;

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
  PyObject *error, *config, *peer, *protocol, *mismatch;

  static ErrorTypes look_up() {
    const py::module_ errors = py::module_::import("lgreco.errors");
    const auto type = [&](const char* name) { return errors.attr(name).ptr(); };
    return {type("Error"), type("ConfigError"), type("PeerError"), type("ProtocolError"),
            type("MismatchError")};
  }

  std::exception_ptr translate(const std::exception_ptr& failure) const {
    try {
      std::rethrow_exception(failure);
    } catch (const PeerError& e) {
      return std::make_exception_ptr(TypedError(e, peer));
    } catch (const ProtocolError& e) {
      return std::make_exception_ptr(TypedError(e, protocol));
    } catch (const MismatchError& e) {
      return std::make_exception_ptr(TypedError(e, mismatch));
    } catch (const ConfigError& e) {
      return std::make_exception_ptr(TypedError(e, config));
    } catch (const std::exception& e) {
      return std::make_exception_ptr(TypedError(e, error));
    }
  }
};

LGrecoPolicy lgreco_from(const py::dict& settings) {
  LGrecoPolicy lgreco;
  lgreco.every = settings["every"].cast<std::uint64_t>();
  lgreco.start = settings["start"].cast<std::uint64_t>();
  lgreco.window = settings["window"].cast<std::uint64_t>();
  lgreco.alpha = settings["alpha"].cast<double>();
  lgreco.budget = parse_budget(settings["budget"].cast<std::string>());
  lgreco.objective = settings["objective"].cast<std::string>() == "time"
                         ? LGrecoPolicy::Objective::time
                         : LGrecoPolicy::Objective::bytes;
  if (const py::object network = settings["network"]; !network.is_none()) {
    const auto [bandwidth, latency] = network.cast<std::pair<double, double>>();
    lgreco.network = Network{.bandwidth = bandwidth, .latency = latency};
  }
  lgreco.solver = parse_solver(settings["solver"].cast<std::string>());
  lgreco.reference_layers_only = settings["layers"].cast<std::string>() == "reference";
  for (const auto& level : settings["candidates"].cast<std::vector<std::string>>()) {
    lgreco.candidates.push_back(parse_level(level));
  }
  return lgreco;
}

AccordionPolicy accordion_from(const py::dict& settings) {
  AccordionPolicy accordion;
  accordion.low = parse_level(settings["low"].cast<std::string>());
  accordion.high = parse_level(settings["high"].cast<std::string>());
  accordion.every = settings["every"].cast<std::uint64_t>();
  accordion.threshold = settings["threshold"].cast<double>();
  if (const py::object then = settings["then"]; !then.is_none()) accordion.then = lgreco_from(then);
  return accordion;
}

Policy policy_from(const py::dict& settings) {
  const auto kind = settings["kind"].cast<std::string>();
  if (kind == "uniform") return UniformPolicy{};
  if (kind == "lgreco") return lgreco_from(settings);
  if (kind == "accordion") return accordion_from(settings);
  FixedPolicy fixed;
  for (const auto& [name, level] : settings["levels"].cast<std::map<std::string, std::string>>()) {
    fixed.levels.emplace(name, parse_level(level));
  }
  return fixed;
}

AggregatorOptions options_from(const py::dict& settings) {
  AggregatorOptions options;
  options.error_feedback = settings["error_feedback"].cast<bool>();
  options.residual = settings["residual"].cast<std::string>() == "bf16" ? DType::bf16 : DType::f32;
  options.seed = settings["seed"].cast<std::uint64_t>();
  options.start = settings["start"].cast<std::uint64_t>();
  options.drift_check_every = settings["drift_check_every"].cast<std::uint64_t>();
  options.threads = settings["threads"].cast<int>();
  options.timeout = std::chrono::milliseconds(
      static_cast<std::int64_t>(1e3 * settings["timeout"].cast<double>()));
  return options;
}

// Every counter with its name: the one list that both directions iterate.
template <typename StatsType, typename Visit>
void for_each_counter(StatsType& stats, Visit visit) {
  visit("steps", stats.steps);
  visit("bytes_sent", stats.bytes_sent);
  visit("bytes_received", stats.bytes_received);
  visit("messages_sent", stats.messages_sent);
  visit("dense_bytes", stats.dense_bytes);
  visit("encode_s", stats.encode_s);
  visit("decode_s", stats.decode_s);
  visit("wait_s", stats.wait_s);
  visit("plan_s", stats.plan_s);
  visit("plan_wait_s", stats.plan_wait_s);
  visit("check_s", stats.check_s);
  visit("plans", stats.plans);
  visit("plan_fallbacks", stats.plan_fallbacks);
  visit("plan_failures", stats.plan_failures);
  visit("overflow_steps", stats.overflow_steps);
  visit("failed_steps", stats.failed_steps);
  visit("residual_norm", stats.residual_norm);
}

py::dict stats_to_dict(const Stats& stats) {
  py::dict dict;
  for_each_counter(stats, [&](const char* name, const auto& value) { dict[name] = value; });
  return dict;
}

Stats stats_from_dict(const py::dict& dict) {
  Stats stats;
  for_each_counter(stats, [&](const char* name, auto& value) {
    value = dict[name].cast<std::remove_reference_t<decltype(value)>>();
  });
  return stats;
}

std::string checksum_text(const AggregatorState& state) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(checksum(state)));
  return text;
}

template <typename Function>
auto unlocked(Function function) {
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

// The Python object: an Aggregator over a c10d group, and the layers' names and shapes.
class TorchAggregator {
 public:
  TorchAggregator(const NamedTensors& layers, const std::string& method, const py::dict& policy,
                  const py::dict& settings, const std::vector<Group>& groups,
                  bool layers_are_parameters)
      : types_(ErrorTypes::look_up()) {
    std::vector<LayerSpec> specs;
    for (const auto& [name, tensor] : layers) {
      index_.emplace(name, specs.size());
      specs.push_back(layer_spec(name, tensor));
    }
    AggregatorOptions options = options_from(settings);
    options.method = parse_level(method);
    options.policy = policy_from(policy);
    if (layers_are_parameters) {
      options.parameter = [layers](std::size_t layer) { return memory_of(layers[layer].second); };
    }
    std::vector<std::unique_ptr<Communicator>> lanes;
    for (const Group& group : groups) lanes.push_back(std::make_unique<C10dCommunicator>(group));
    const py::gil_scoped_release release;
    aggregator_ = {new Aggregator(std::move(specs), std::move(options), std::move(lanes)),
                   delete_without_gil};
  }

  void register_hook(const std::shared_ptr<c10d::Reducer>& reducer,
                     const std::vector<at::Tensor>& parameters, bool may_be_unused) {
    reducer->register_comm_hook(std::make_unique<CommHook>(
        aggregator_, parameters, may_be_unused,
        [types = types_](const std::exception_ptr& failure) { return types.translate(failure); }));
  }

  // Always all layers, in the order of registration, so that messages fit whatever each rank has.
  void average(const std::map<std::string, at::Tensor>& tensors) {
    std::vector<at::Tensor> values(aggregator_->layers().size());
    for (const auto& [name, tensor] : tensors) values[registered(name, tensor)] = tensor.detach();
    std::vector<std::size_t> layers;
    std::vector<bool> present;
    for (std::size_t layer = 0; layer < values.size(); ++layer) {
      const LayerSpec& spec = aggregator_->layers()[layer];
      layers.push_back(layer);
      present.push_back(values[layer].defined());
      if (!present[layer]) values[layer] = at::zeros(spec.shape, scalar_type(spec.dtype));
    }
    const py::gil_scoped_release release;
    BucketTensors tensors_of_bucket(std::move(values), layers);
    Bucket bucket = tensors_of_bucket.bucket(/*last=*/true, /*skip_zeros=*/false);
    for (std::size_t i = 0; i < present.size(); ++i) bucket.gradients[i].present = present[i];
    aggregator_->exchange(bucket);
    tensors_of_bucket.finish();
  }

  void set_grad_scale(double scale) {
    unlocked([&] { aggregator_->set_grad_scale(scale); });
  }

  void on_learning_rate_change(double before, double now) {
    unlocked([&] { aggregator_->on_learning_rate_change(before, now); });
  }

  bool in_critical_regime() const {
    return unlocked([&] { return aggregator_->in_critical_regime(); });
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

  void start_trace() { aggregator_->start_trace(); }

  // Chrome's trace format, "complete" events; times in microseconds.
  py::list stop_trace() {
    py::list events;
    for (const TraceEvent& event : unlocked([&] { return aggregator_->stop_trace(); })) {
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
    return plan_to_dict(unlocked([&] { return aggregator_->plan(); }));
  }
  py::dict stats() const {
    return stats_to_dict(unlocked([&] { return aggregator_->stats(); }));
  }

  py::dict state() const {
    const AggregatorState state = unlocked([&] { return aggregator_->state(); });
    py::dict layers;
    for (std::size_t i = 0; i < state.layers.size(); ++i) {
      const LayerSpec& spec = aggregator_->layers()[i];
      const LayerState& saved = state.layers[i];
      const auto columns = static_cast<std::int64_t>(spec.matrix().cols);
      py::dict layer;
      layer["residual"] = to_tensor(saved.residual, spec.shape);
      layer["factor"] = to_tensor(saved.factor, {-1, columns});
      layer["window"] = to_tensor(saved.window, spec.shape);
      layer["window_steps"] = saved.window_steps;
      layer["interval_sum"] = to_tensor(saved.interval_sum, spec.shape);
      layer["interval_norm"] = saved.interval_norm;
      layer["critical"] = saved.critical;
      layers[py::str(spec.name)] = layer;
    }
    py::dict dict;
    dict["rank"] = state.rank;
    dict["size"] = state.size;
    dict["step"] = state.step;
    dict["fingerprint"] = state.fingerprint;
    dict["grad_scale"] = state.grad_scale;
    dict["critical"] = state.critical;
    dict["plan"] = plan_to_dict(state.plan);
    dict["stats"] = stats_to_dict(state.stats);
    dict["layers"] = layers;
    dict["checksum"] = checksum_text(state);
    return dict;
  }

  /// Collective. `states` is this rank's own, or, for another number of ranks, those of all old
  /// ranks (`change` "mean") or any of them ("reset"). With a `problem` this rank has nothing to
  /// load.
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
    unlocked([&] {
      state ? aggregator_->load_state(std::move(*state)) : aggregator_->refuse_state(reason);
    });
  }

 private:
  std::size_t registered(const std::string& name, const at::Tensor& tensor) const {
    const auto found = index_.find(name);
    if (found == index_.end()) {
      throw ConfigError("[aggregator] '" + name + "' is no registered layer");
    }
    const LayerSpec spec = layer_spec(name, tensor);
    if (!(spec == aggregator_->layers()[found->second])) {
      throw ConfigError("[aggregator] layer '" + name +
                        "' has another shape or dtype than it was registered with");
    }
    return found->second;
  }

  AggregatorState combined(const std::vector<py::dict>& states, const std::string& change) const {
    std::vector<AggregatorState> loaded;
    for (const py::dict& state : states) loaded.push_back(state_from(state));
    const int rank = aggregator_->rank(), size = aggregator_->size();
    if (change == "mean") return resize(loaded, rank, size);
    AggregatorState& state = loaded.front();
    if (change == "reset") {
      state.rank = rank;
      state.size = size;
      for (LayerState& layer : state.layers) {
        layer.residual = layer.window = {};
        layer.window_steps = 0;
      }
    }
    return std::move(state);
  }

  /// Throws StateError on an entry that is missing, of a wrong type, or not what was saved.
  AggregatorState state_from(const py::dict& dict) const {
    AggregatorState state;
    try {
      state.rank = dict["rank"].cast<int>();
      state.size = dict["size"].cast<int>();
      state.step = dict["step"].cast<std::uint64_t>();
      state.fingerprint = dict["fingerprint"].cast<std::uint64_t>();
      state.grad_scale = dict["grad_scale"].cast<double>();
      state.critical = dict["critical"].cast<bool>();
      state.plan = plan_from_dict(dict["plan"]);
      state.stats = stats_from_dict(dict["stats"]);
      const py::dict layers = dict["layers"];
      for (const LayerSpec& spec : aggregator_->layers()) {
        const py::dict layer = layers[py::str(spec.name)];
        state.layers.push_back({.residual = to_vector(layer["residual"].cast<at::Tensor>()),
                                .factor = to_vector(layer["factor"].cast<at::Tensor>()),
                                .window = to_vector(layer["window"].cast<at::Tensor>()),
                                .window_steps = layer["window_steps"].cast<std::uint64_t>(),
                                .interval_sum = to_vector(layer["interval_sum"].cast<at::Tensor>()),
                                .interval_norm = layer["interval_norm"].cast<double>(),
                                .critical = layer["critical"].cast<bool>()});
      }
      if (layers.size() != aggregator_->layers().size()) {
        throw StateError("[state] saved for a model with other layers");
      }
      if (dict["checksum"].cast<std::string>() != checksum_text(state)) {
        throw StateError("[state] the state is damaged: its checksum is not that of its content");
      }
    } catch (const py::error_already_set& error) {
      throw StateError(std::string("[state] an entry is missing: ") + error.what());
    } catch (const py::cast_error& error) {
      throw StateError(std::string("[state] an entry has a wrong type: ") + error.what());
    } catch (const ConfigError& error) {
      throw StateError(std::string("[state] ") + error.what());
    }
    return state;
  }

  ErrorTypes types_;
  std::map<std::string, std::size_t> index_;
  std::shared_ptr<Aggregator> aggregator_;
};

}  // namespace

void bind_aggregator(py::module_& module) {
  module.attr("LONGEST_TIMEOUT_SECONDS") = std::chrono::duration<double>(kLongestTimeout).count();
  py::class_<TorchAggregator>(module, "Aggregator")
      .def(py::init<const NamedTensors&, const std::string&, const py::dict&, const py::dict&,
                    const std::vector<Group>&, bool>(),
           py::kw_only(), py::arg("layers"), py::arg("method"), py::arg("policy"),
           py::arg("settings"), py::arg("groups"), py::arg("layers_are_parameters"))
      .def("register_hook", &TorchAggregator::register_hook, py::arg("reducer"),
           py::arg("parameters"), py::arg("may_be_unused"))
      .def("average_", &TorchAggregator::average, py::arg("tensors"))
      .def("set_grad_scale", &TorchAggregator::set_grad_scale, py::arg("scale"))
      .def("on_learning_rate_change", &TorchAggregator::on_learning_rate_change, py::arg("before"),
           py::arg("now"))
      .def("in_critical_regime", &TorchAggregator::in_critical_regime)
      .def("memory", &TorchAggregator::memory)
      .def("start_trace", &TorchAggregator::start_trace)
      .def("stop_trace", &TorchAggregator::stop_trace)
      .def("plan", &TorchAggregator::plan)
      .def("stats", &TorchAggregator::stats)
      .def("state", &TorchAggregator::state)
      .def("load_state", &TorchAggregator::load_state, py::arg("states"), py::arg("change"),
           py::arg("problem"));
}

}  // namespace lgreco
