// Partial plans of the exact search, and how lists of them are joined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lgreco {

/// A choice for the decided rows; the others keep the relaxation's choice. Sums are relative to the
/// relaxation's choice in all rows.
struct State {
  double error;
  double cost;
  std::uint32_t parent;  // in the list of one decided row less
  std::uint32_t option;  // chosen in the row decided last
};

/// By ascending error; no other state costs at most as much with at most the error.
using States = std::vector<State>;

/// The undominated of several `States`, which lie in `runs` one after another and end at `ends`. Of
/// equal ones the first stays. Destroys its arguments.
States undominated(States& runs, std::vector<std::size_t>& ends);

}  // namespace lgreco
