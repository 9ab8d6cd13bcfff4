#include "src/planner/states.h"

#include <limits>

namespace lgreco {
namespace {

bool precedes(const State& a, const State& b) {
  return a.error != b.error ? a.error < b.error : a.cost <= b.cost;
}

void merge(const State* a, const State* a_end, const State* b, const State* b_end, States& out) {
  double least = std::numeric_limits<double>::infinity();
  const auto add = [&](const State& state) {
    if (state.cost >= least) return;
    least = state.cost;
    out.push_back(state);
  };
  while (a != a_end && b != b_end) add(precedes(*a, *b) ? *a++ : *b++);
  while (a != a_end) add(*a++);
  while (b != b_end) add(*b++);
}

}  // namespace

void keep_undominated(States& runs, std::vector<std::size_t>& ends, States& scratch) {
  while (ends.size() > 1) {
    scratch.clear();
    std::size_t begin = 0, merged = 0;
    for (std::size_t r = 0; r < ends.size(); r += 2) {
      const std::size_t middle = ends[r], end = r + 1 < ends.size() ? ends[r + 1] : middle;
      const State* data = runs.data();
      merge(data + begin, data + middle, data + middle, data + end, scratch);
      ends[merged++] = scratch.size();
      begin = end;
    }
    ends.resize(merged);
    runs.swap(scratch);
  }
}

}  // namespace lgreco
