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

/// Reduces `runs`, several `States` that lie one after another and end at `ends`, to the
/// undominated among them. Of equal ones the first stays. `scratch` and `ends` hold nothing of use
/// afterwards.
void keep_undominated(States& runs, std::vector<std::size_t>& ends, States& scratch);

}  // namespace lgreco
