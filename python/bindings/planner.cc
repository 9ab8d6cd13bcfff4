#include "lgreco/planner.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "lgreco/status.h"
#include "python/bindings/bindings.h"

namespace lgreco {
namespace {

namespace py = pybind11;
using Table = std::vector<py::array_t<double, py::array::c_style | py::array::forcecast>>;

std::vector<double> values_of(const Table::value_type& row) {
  return {row.data(), row.data() + row.size()};
}

py::dict solve_table(const Table& costs, const Table& errors, double budget,
                     const std::optional<std::vector<std::size_t>>& reference,
                     const std::string& solver) {
  std::vector<PlannerRow> rows;
  for (std::size_t i = 0; i < costs.size(); ++i)
    rows.push_back({values_of(costs[i]), values_of(errors[i])});
  const SolveOptions options{.solver = parse_solver(solver)};
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
