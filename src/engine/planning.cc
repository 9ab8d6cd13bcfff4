#include "src/engine/planning.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "lgreco/status.h"
#include "src/engine/messages.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

std::vector<Level> candidates_of(const LGrecoPolicy& policy, const Level& method,
                                 const LayerSpec& layer, const Level& reference) {
  std::vector<Level> candidates = {reference};
  if (policy.reference_layers_only && reference == resolve(Level{}, layer)) return candidates;
  const auto offered = policy.candidates.empty() ? neighbours(method) : policy.candidates;
  const auto add = [&](const Level& level) {
    const Level resolved = resolve(level, layer);
    if (std::find(candidates.begin(), candidates.end(), resolved) == candidates.end()) {
      candidates.push_back(resolved);
    }
  };
  for (const Level& level : offered) add(level);
  add(Level{});  // dense is always possible
  return candidates;
}

std::vector<float> mean_over_ranks(std::span<const float> table, const Frame& frame,
                                   Communicator& communicator, Deadline deadline) {
  const Place place{communicator.rank(), communicator.size()};
  const auto ranks = static_cast<std::size_t>(place.ranks);
  Messages messages(Messages::Kind::gather, Phase::planning, place, 0,
                    std::vector<std::size_t>(ranks, table.size_bytes()));
  std::memcpy(messages.outgoing(place.rank).data(), table.data(), table.size_bytes());
  messages.exchange(communicator, frame, deadline);
  std::vector<float> mean(table.size(), 0.0f), addend(table.size());
  for (int rank = 0; rank < place.ranks; ++rank) {
    std::memcpy(addend.data(), messages.incoming(rank).data(), table.size_bytes());
    kernels::add(mean.data(), addend.data(), mean.size(), mean.data());
  }
  kernels::scale(mean.data(), 1.0f / static_cast<float>(place.ranks), mean.size(), mean.data());
  return mean;
}

double cost_of(const Level& level, const LayerSpec& spec) {
  return static_cast<double>(payload_bytes(level, spec.matrix()));
}

}  // namespace

void check(const Policy& policy) {
  std::visit(
      Overloaded{
          [](const UniformPolicy&) {},
          [](const FixedPolicy& fixed) {
            for (const auto& [name, level] : fixed.levels) check(level);
          },
          [](const LGrecoPolicy& lgreco) {
            if (lgreco.every < 1 || lgreco.start < 1 || lgreco.window < 1) {
              throw ConfigError("[policy] LGreCo: every, start and window must be at least 1");
            }
            if (lgreco.window > lgreco.every) {
              throw ConfigError("[policy] LGreCo: window " + std::to_string(lgreco.window) +
                                " is longer than every " + std::to_string(lgreco.every));
            }
            if (!(lgreco.alpha > 0) || !std::isfinite(lgreco.alpha)) {
              throw ConfigError("[policy] LGreCo: alpha must be positive and finite");
            }
            for (const Level& level : lgreco.candidates) check(level);
          },
      },
      policy);
}

Planning::Planning(const std::vector<LayerRecord>& layers, const AggregatorOptions& options)
    : options_(options) {
  check(options_.method);
  check(options_.policy);
  for (const LayerRecord& layer : layers) {
    specs_.push_back(layer.spec);
    reference_.push_back(resolve(options_.method, layer.spec));
  }
  if (const auto* fixed = std::get_if<FixedPolicy>(&options_.policy)) {
    for (const auto& [name, level] : fixed->levels) {
      const auto found =
          std::find_if(specs_.begin(), specs_.end(),
                       [&wanted = name](const LayerSpec& spec) { return spec.name == wanted; });
      if (found == specs_.end()) {
        throw ConfigError("[policy] Fixed: the model has no layer '" + name + "'");
      }
      reference_[static_cast<std::size_t>(found - specs_.begin())] = resolve(level, *found);
    }
  }
  if (const auto* lgreco = std::get_if<LGrecoPolicy>(&options_.policy)) {
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      candidates_.push_back(candidates_of(*lgreco, options_.method, specs_[i], reference_[i]));
    }
  }
}

Plan Planning::uniform_plan(const std::vector<Level>& levels) const {
  Plan plan;
  plan.levels = levels;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    plan.layers.push_back(specs_[i].name);
    plan.bytes += cost_of(levels[i], specs_[i]);
  }
  plan.lower_bound = plan.bytes;
  return plan;
}

Plan Planning::first_plan() const {
  if (options_.start == 0) return uniform_plan(reference_);
  std::vector<Level> dense;
  for (const LayerSpec& spec : specs_) dense.push_back(resolve(Level{}, spec));
  return uniform_plan(dense);
}

std::optional<std::uint64_t> Planning::next_planning_step(std::uint64_t step) const {
  const auto* lgreco = std::get_if<LGrecoPolicy>(&options_.policy);
  if (lgreco == nullptr) return std::nullopt;
  const std::uint64_t first = std::max(lgreco->start, options_.start);
  if (step <= first) return first;
  const std::uint64_t intervals = (step - first + lgreco->every - 1) / lgreco->every;
  return first + intervals * lgreco->every;
}

bool Planning::collects(std::uint64_t step) const {
  const auto next = next_planning_step(step + 1);
  return next && step + std::get<LGrecoPolicy>(options_.policy).window >= *next;
}

bool Planning::due(std::uint64_t step) const {
  return (options_.start > 0 && step == options_.start) || next_planning_step(step) == step;
}

Plan Planning::next_plan(std::uint64_t step, const Plan& current, std::vector<LayerRecord>& layers,
                         Communicator& communicator, Deadline deadline, Stats& stats) const {
  Plan plan = uniform_plan(reference_);
  if (next_planning_step(step) == step) {
    solve_table(error_table(step, current.hash(), layers, communicator, deadline), plan, stats);
    ++stats.plans;
  }
  plan.step = step;
  plan.version = current.version + (plan.levels == current.levels ? 0 : 1);
  return plan;
}

std::vector<float> Planning::error_table(std::uint64_t step, std::uint64_t plan,
                                         std::vector<LayerRecord>& layers,
                                         Communicator& communicator, Deadline deadline) const {
  std::vector<float> table;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    LayerRecord& layer = layers[i];
    std::vector<double> row(1 + candidates_[i].size(), std::numeric_limits<double>::quiet_NaN());
    if (layer.window_steps > 0) {
      kernels::scale(layer.window.data(), 1.0f / static_cast<float>(layer.window_steps),
                     layer.window.size(), layer.window.data());
      row[0] = std::sqrt(kernels::sum_squares(layer.window.data(), layer.window.size()));
      if (candidates_[i].size() > 1) {
        const auto errors =
            analyze(layer.window, layer.shape, candidates_[i], {options_.seed, 0, layer.id});
        std::copy(errors.begin(), errors.end(), row.begin() + 1);
      }
    }
    table.insert(table.end(), row.begin(), row.end());
    layer.window = {};
    layer.window_steps = 0;
  }
  return mean_over_ranks(table, {.step = step, .plan = plan}, communicator, deadline);
}

void Planning::solve_table(const std::vector<float>& table, Plan& plan, Stats& stats) const {
  const auto& policy = std::get<LGrecoPolicy>(options_.policy);
  std::vector<PlannerRow> rows;
  double reference_error = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const float norm = table[at++];
    const std::size_t errors_at = at;
    at += candidates_[i].size();
    // Only the reference is left of a layer that is fixed, zero or could not be analysed.
    const bool fixed = candidates_[i].size() == 1;
    const bool usable =
        !fixed && std::isfinite(norm) && norm > 0 && std::isfinite(table[errors_at]);
    if (!fixed && !usable) ++stats.plan_fallbacks;
    PlannerRow& row = rows.emplace_back();
    for (std::size_t c = 0; c < (usable ? candidates_[i].size() : 1); ++c) {
      const double error = usable ? table[errors_at + c] : 0;
      row.costs.push_back(cost_of(candidates_[i][c], specs_[i]));
      row.errors.push_back(policy.budget == LGrecoPolicy::Budget::squared ? error * error : error);
    }
    reference_error += row.errors[0];
  }
  const std::vector<std::size_t> reference(rows.size(), 0);
  plan.budget = policy.alpha * reference_error;
  const Solution solution = solve(rows, plan.budget, reference, {.solver = policy.solver});
  for (std::size_t i = 0; i < rows.size(); ++i) plan.levels[i] = candidates_[i][solution.choice[i]];
  plan.bytes = solution.cost;
  plan.error = solution.error;
  plan.lower_bound = solution.lower_bound;
}

}  // namespace lgreco
