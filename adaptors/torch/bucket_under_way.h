// A bucket between the caller, who has its gradients, and the engine.
#pragma once

#include <c10/core/Stream.h>

#include <vector>

#include "lgreco/bucket.h"

namespace lgreco {

/// The gradients of one step that are handed over at once, on the CPU or on any accelerators.
/// Between construction and store() the memory that was given is used, and kept. No thread of the
/// caller's waits for a device but in store(), where memory of the host could not be pinned.
class BucketUnderWay {
 public:
  virtual ~BucketUnderWay() = default;

  /// What is handed to the engine; it keeps this object alive until the gradients are fetched.
  virtual Bucket bucket(bool last) = 0;
  /// The averages are where the gradients were; on an accelerator, once streams() are there.
  virtual void store() = 0;
  /// Those of devices that gradients came from.
  virtual std::vector<c10::Stream> streams() const = 0;
};

}  // namespace lgreco
