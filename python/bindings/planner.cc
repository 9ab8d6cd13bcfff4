#include "lgreco/planner.h"

#include <pybind11/stl.h>

#include "lgreco/status.h"
#include "python/bindings/bindings.h"

namespace lgreco {
namespace {

namespace py = pybind11;
using Table = std::vector<std::vector<double>>;

py::dict solve_table(const Table& costs, const Table& errors, double budget,
                     const std::optional<std::vector<std::size_t>>& reference,
                     const std::string& solver) {
  std::vector<PlannerRow> rows;
  for (std::size_t i = 0; i < costs.size(); ++i) rows.push_back({costs[i], errors[i]});
  const SolveOptions options{.solver = solver == "dp" ? Solver::dp : Solver::exact};
  Solution solution;
  {
    const py::gil_scoped_release release;
    solution = reference ? solve(rows, budget, *reference, options)
                         : solve(rows, budget, std::nullopt, options);
  }
  py::dict result;
  result["choice"] = solution.choice;
  result["cost"] = solution.cost;
  result["error"] = solution.error;
  result["lower_bound"] = solution.lower_bound;
  result["feasible"] = solution.feasible;
  result["fallback_layers"] = solution.fallback_layers;
  return result;
}

}  // namespace

void bind_planner(py::module_& module) { module.def("solve", solve_table); }

}  // namespace lgreco
