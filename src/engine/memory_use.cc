#include "src/engine/memory_use.h"

#include <algorithm>

#include "lgreco/algorithm.h"

namespace lgreco {
namespace {

/// What a layer adds to the buffers of messages (see Messages).
std::uint64_t message_bytes(const LayerRecord& record, std::uint64_t ranks) {
  // Scattered: all but the own share is sent, and the own share comes from each peer. Gathered: all
  // of it, the others' shares where scattered ones were sent from.
  const auto scattered = [&](std::uint64_t bytes) { return bytes * (ranks - 1) / ranks; };
  const auto bytes_of = [&](int round) -> std::uint64_t {
    if (record.linear == nullptr) return record.coded->payload_bytes(record.shape.count());
    return record.factor_codec->payload_bytes(record.linear->round_floats(record.shape, round));
  };
  const int rounds = record.linear == nullptr ? 1 : record.linear->rounds();
  const std::uint64_t p = bytes_of(0), q = rounds == 2 ? bytes_of(1) : 0;
  if (algorithm_for(static_cast<int>(ranks)) == Algorithm::gathered) return ranks * (p + q);
  if (rounds == 1) return 2 * scattered(p) + p / ranks;
  return scattered(p) + p + 2 * scattered(q) + scattered(std::max(p, q)) + q / ranks;
}

}  // namespace

MemoryUse memory_use(const std::vector<LayerRecord>& layers, const AggregatorOptions& options,
                     int ranks) {
  MemoryUse memory;
  // What a step changes, and what it found.
  const std::uint64_t copies = options.keep_previous ? 2 : 1;
  for (const LayerRecord& record : layers) {
    const std::uint64_t count = record.shape.count();
    const std::uint64_t residual = count * size_of(options.residual);
    memory.staging += message_bytes(record, static_cast<std::uint64_t>(ranks));
    if (record.spec.dtype != DType::f32) memory.staging += 2 * count * sizeof(float);
    if (record.linear != nullptr) {
      for (int round = 0; round < record.linear->rounds(); ++round) {
        memory.staging += record.linear->round_floats(record.shape, round) * sizeof(float);
      }
      memory.factors += copies * record.linear->state_floats(record.shape) * sizeof(float);
    }
    if (options.error_feedback && record.level.method != Method::dense) {
      memory.residuals += residual;
    }
    if (options.keep_previous) memory.residuals += residual;  // taken whatever the level is
    if (record.measured_here) memory.windows += 2 * count * sizeof(float);
    if (std::holds_alternative<AccordionPolicy>(options.policy)) {
      memory.windows += copies * count * sizeof(float);
    }
  }
  return memory;
}

}  // namespace lgreco
