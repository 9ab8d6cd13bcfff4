// Plans as dicts of plain values, as lgreco.plan reads them, in every module alike.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "lgreco/plan.h"

namespace lgreco {

inline pybind11::dict to_dict(const Estimate& estimate) {
  return pybind11::dict(pybind11::arg("bytes") = estimate.bytes,
                        pybind11::arg("error") = estimate.error,
                        pybind11::arg("seconds") = estimate.seconds);
}

inline Estimate estimate_from(const pybind11::dict& dict) {
  return {.bytes = dict["bytes"].cast<double>(),
          .error = dict["error"].cast<double>(),
          .seconds = dict["seconds"].cast<double>()};
}

inline pybind11::dict estimates_to_dict(const Plan& plan) {
  pybind11::dict estimates;
  for (std::size_t i = 0; i < plan.estimates.size(); ++i) {
    const LayerEstimate& estimate = plan.estimates[i];
    estimates[pybind11::str(plan.layers[i])] =
        pybind11::dict(pybind11::arg("reason") = name_of(estimate.reason),
                       pybind11::arg("chosen") = to_dict(estimate.chosen),
                       pybind11::arg("reference") = to_dict(estimate.reference),
                       pybind11::arg("dense") = to_dict(estimate.dense));
  }
  return estimates;
}

inline LayerEstimate layer_estimate_from(const pybind11::dict& dict) {
  return {.reason = parse_reason(dict["reason"].cast<std::string>()),
          .chosen = estimate_from(dict["chosen"]),
          .reference = estimate_from(dict["reference"]),
          .dense = estimate_from(dict["dense"])};
}

inline pybind11::dict plan_to_dict(const Plan& plan) {
  pybind11::dict levels;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    levels[pybind11::str(plan.layers[i])] = to_string(plan.levels[i]);
  }
  pybind11::dict dict;
  dict["levels"] = levels;
  dict["version"] = plan.version;
  dict["step"] = plan.step;
  dict["bytes"] = plan.bytes;
  dict["error"] = plan.error;
  dict["budget"] = plan.budget;
  dict["lower_bound"] = plan.lower_bound;
  dict["estimates"] = estimates_to_dict(plan);
  return dict;
}

inline Plan plan_from_dict(const pybind11::dict& dict) {
  Plan plan;
  for (const auto& [name, level] : dict["levels"].cast<pybind11::dict>()) {
    plan.layers.push_back(name.cast<std::string>());
    plan.levels.push_back(parse_level(level.cast<std::string>()));
  }
  const pybind11::dict estimates = dict["estimates"];
  if (!estimates.empty()) {
    for (const std::string& layer : plan.layers) {
      plan.estimates.push_back(layer_estimate_from(estimates[pybind11::str(layer)]));
    }
  }
  plan.version = dict["version"].cast<std::uint64_t>();
  plan.step = dict["step"].cast<std::uint64_t>();
  plan.bytes = dict["bytes"].cast<double>();
  plan.error = dict["error"].cast<double>();
  plan.budget = dict["budget"].cast<double>();
  plan.lower_bound = dict["lower_bound"].cast<double>();
  return plan;
}

}  // namespace lgreco
