#include <pybind11/stl.h>

#include "python/bindings/bindings.h"
#include "python/bindings/plan_dict.h"
#include "src/engine/plan_solver.h"

namespace lgreco {
namespace {

namespace py = pybind11;

LevelRow row_from(const py::dict& dict) {
  LevelRow row{.name = dict["name"].cast<std::string>(),
               .levels = {},
               .bytes = dict["bytes"].cast<std::vector<double>>(),
               .errors = dict["errors"].cast<std::vector<double>>(),
               .norm = dict["norm"].cast<std::optional<double>>(),
               .reference = dict["reference"].cast<std::size_t>(),
               .dense = dict["dense"].cast<std::optional<std::size_t>>()};
  for (const auto& level : dict["levels"].cast<std::vector<std::string>>()) {
    row.levels.push_back(parse_level(level));
  }
  return row;
}

// For bytes: the plan, and whether it is within the budget.
std::pair<py::dict, bool> solve_table(const std::vector<py::dict>& rows, const std::string& budget,
                                      double alpha, const std::string& solver) {
  LGrecoPolicy policy;
  policy.alpha = alpha;
  policy.budget = parse_budget(budget);
  policy.solver = parse_solver(solver);
  std::vector<LevelRow> layers;
  for (const py::dict& row : rows) layers.push_back(row_from(row));
  SolvedPlan solved;
  {
    const py::gil_scoped_release release;
    solved = solve_plan({.policy = policy, .layers = layers});
  }
  return {plan_to_dict(solved.plan), solved.feasible};
}

}  // namespace

void bind_plans(py::module_& module) {
  module.def("solve_plan", solve_table, py::arg("rows"), py::arg("budget"), py::arg("alpha"),
             py::arg("solver"));
}

}  // namespace lgreco
