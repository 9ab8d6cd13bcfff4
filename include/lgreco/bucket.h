// What is handed to an Aggregator at once: gradients of some layers, in this rank's memory by the
// time that they are read.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lgreco/communicator.h"

namespace lgreco {

/// One layer's gradient inside a bucket, contiguous, in the dtype of its LayerSpec. Replaced by the
/// average over all ranks.
struct Gradient {
  std::size_t layer = 0;  // index in the registered list
  void* data = nullptr;
  /// false: this rank has no gradient for the layer in this step. Absent everywhere: the data is
  /// filled with zeros and the layer's residual stays for a later step.
  bool present = true;
};

struct Bucket {
  std::vector<Gradient> gradients;
  /// Ends the step. A bucket of no layers sends nothing; the last one may be.
  bool last = true;
  /// Why this rank's part of the step is not what it should be: the step is lost on all ranks, with
  /// a ConfigError of it.
  std::string problem = {};
  /// Where the gradients are not at hand yet (on an accelerator, at other ranks of the node): waits
  /// for them, at most until the deadline, and may change each one's `data` and `present`. Called
  /// once, on a thread of the library, before they are read; what it throws costs the step, on all
  /// ranks. Empty: they are there.
  std::function<void(std::span<Gradient>, Deadline)> fetch = {};
  /// Where others wait for the averages, too (the ranks of a node): called once they are written,
  /// in a step that is not lost, bucket by bucket on the last lane's thread and before any `done`
  /// of the step. What it throws ends the run. Empty: nobody does.
  std::function<void(Deadline)> deliver = {};
};

}  // namespace lgreco
