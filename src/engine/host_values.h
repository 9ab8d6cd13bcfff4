// Values in the memory of the host, computed by the kernels of src/kernels.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lgreco/values.h"
#include "src/engine/host_layer.h"
#include "src/engine/layer_record.h"
#include "src/engine/worker_pool.h"

namespace lgreco {

class HostValues final : public Values {
 public:
  /// `layers`, whose residuals, factors, windows and sums of averages it changes, stay the
  /// caller's. They and `pool` must outlive it.
  HostValues(std::vector<LayerRecord>& layers, const HostSettings& settings, WorkerPool& pool)
      : layers_(layers), settings_(settings), pool_(pool) {}

  std::unique_ptr<BucketValues> bucket(std::span<const std::size_t> layers) override;

 private:
  std::vector<LayerRecord>& layers_;
  const HostSettings settings_;
  WorkerPool& pool_;
};

}  // namespace lgreco
