#include "python/bindings/torch/state_dict.h"

#include <torch/csrc/utils/pybind.h>

#include <cstdio>
#include <string>

#include "adaptors/torch/tensor_bridge.h"
#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "python/bindings/plan_dict.h"

namespace lgreco {
namespace {

namespace py = pybind11;

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
  visit("dropped_residuals", stats.dropped_residuals);
  visit("unapplied_steps", stats.unapplied_steps);
  visit("large_residual_steps", stats.large_residual_steps);
  visit("residual_norm", stats.residual_norm);
  visit("plan_failure", stats.plan_failure);
}

}  // namespace

py::dict stats_to_dict(const Stats& stats) {
  py::dict dict;
  for_each_counter(stats, [&](const char* name, const auto& value) { dict[name] = value; });
  return dict;
}

namespace {

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

}  // namespace

py::dict state_to_dict(const AggregatorState& state, const std::vector<LayerSpec>& specs) {
  py::dict layers;
  for (std::size_t i = 0; i < state.layers.size(); ++i) {
    const LayerSpec& spec = specs[i];
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
  if (state.is_portable()) {
    dict["portable"] = true;
  } else {
    dict["rank"] = state.rank;
    dict["size"] = state.size;
  }
  dict["step"] = state.step;
  dict["fingerprint"] = state.fingerprint;
  dict["grad_scale"] = state.grad_scale;
  dict["critical"] = state.critical;
  dict["learning_rate_decayed"] = state.learning_rate_decayed;
  dict["decay_is_agreed"] = state.decay_is_agreed;
  dict["unsettled"] = state.unsettled;
  dict["plan"] = plan_to_dict(state.plan);
  dict["stats"] = stats_to_dict(state.stats);
  dict["layers"] = layers;
  dict["checksum"] = checksum_text(state);
  return dict;
}

AggregatorState state_from_dict(const py::dict& dict) {
  AggregatorState state;
  try {
    if (dict.contains("portable")) {
      state.rank = state.size = 0;
    } else {
      state.rank = dict["rank"].cast<int>();
      state.size = dict["size"].cast<int>();
    }
    state.step = dict["step"].cast<std::uint64_t>();
    state.fingerprint = dict["fingerprint"].cast<std::uint64_t>();
    state.grad_scale = dict["grad_scale"].cast<double>();
    state.critical = dict["critical"].cast<bool>();
    state.learning_rate_decayed = dict["learning_rate_decayed"].cast<bool>();
    state.decay_is_agreed = dict["decay_is_agreed"].cast<bool>();
    state.unsettled = dict["unsettled"].cast<bool>();
    state.plan = plan_from_dict(dict["plan"]);
    state.stats = stats_from_dict(dict["stats"]);
    const py::dict layers = dict["layers"];
    for (const std::string& name : state.plan.layers) {
      const py::dict layer = layers[py::str(name)];
      state.layers.push_back({.residual = to_vector(layer["residual"].cast<at::Tensor>()),
                              .factor = to_vector(layer["factor"].cast<at::Tensor>()),
                              .window = to_vector(layer["window"].cast<at::Tensor>()),
                              .window_steps = layer["window_steps"].cast<std::uint64_t>(),
                              .interval_sum = to_vector(layer["interval_sum"].cast<at::Tensor>()),
                              .interval_norm = layer["interval_norm"].cast<double>(),
                              .critical = layer["critical"].cast<bool>()});
    }
    if (layers.size() != state.plan.layers.size()) {
      throw StateError("[state] the plan has other layers than the state");
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

}  // namespace lgreco
