// What is handed to an Aggregator at once: gradients of some layers, in this rank's memory.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

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
};

}  // namespace lgreco
