#include "python/bindings/torch/settings.h"

#include <pybind11/stl.h>

#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include "lgreco/budget.h"
#include "lgreco/level.h"
#include "lgreco/planner.h"

namespace lgreco {
namespace {

namespace py = pybind11;

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

}  // namespace

AggregatorOptions options_from(const std::string& method, const py::dict& policy,
                               const py::dict& settings) {
  AggregatorOptions options;
  options.method = parse_level(method);
  options.policy = policy_from(policy);
  options.error_feedback = settings["error_feedback"].cast<bool>();
  options.residual = settings["residual"].cast<std::string>() == "bf16" ? DType::bf16 : DType::f32;
  options.seed = settings["seed"].cast<std::uint64_t>();
  options.start = settings["start"].cast<std::uint64_t>();
  options.keep_previous = settings["keep_previous"].cast<bool>();
  options.caller_settings =
      settings["caller_settings"].cast<std::vector<std::pair<std::string, std::string>>>();
  options.drift_check_every = settings["drift_check_every"].cast<std::uint64_t>();
  options.threads = settings["threads"].cast<int>();
  options.timeout = std::chrono::milliseconds(
      static_cast<std::int64_t>(1e3 * settings["timeout"].cast<double>()));
  return options;
}

}  // namespace lgreco
