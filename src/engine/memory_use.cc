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
  const auto scattered_of = [&](int round) -> std::uint64_t {
    return record.codecs(round).scatter->payload_bytes(record.summed_floats(round));
  };
  const auto gathered_of = [&](int round) -> std::uint64_t {
    return record.codecs(round).gather->payload_bytes(record.summed_floats(round));
  };
  const int rounds = record.linear == nullptr ? 1 : record.linear->rounds();
  const std::uint64_t p = scattered_of(0), q = rounds == 2 ? scattered_of(1) : 0;
  if (algorithm_for(static_cast<int>(ranks)) == Algorithm::gathered) return ranks * (p + q);
  if (rounds == 1) {
    const std::uint64_t mean = gathered_of(0);
    return scattered(p) + scattered(std::max(p, mean)) + mean / ranks;
  }
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
      if (options.error_feedback && record.keeps_own_part()) {
        const int last = record.linear->rounds() - 1;
        memory.staging += record.linear->round_floats(record.shape, last) * sizeof(float);
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
