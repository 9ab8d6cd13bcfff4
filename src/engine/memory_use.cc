#include "src/engine/memory_use.h"

namespace lgreco {

MemoryUse memory_use(const std::vector<LayerRecord>& layers, const AggregatorOptions& options,
                     int ranks) {
  MemoryUse memory;
  const auto peers = static_cast<std::uint64_t>(ranks - 1);
  for (const LayerRecord& record : layers) {
    const std::uint64_t count = record.shape.count();
    const std::uint64_t payload = payload_bytes(record.level, record.shape);
    // Scattered to and from the owners' share, and gathered as a whole.
    memory.staging += payload + 2 * payload * peers / static_cast<std::uint64_t>(ranks);
    if (record.spec.dtype != DType::f32) memory.staging += 2 * count * sizeof(float);
    if (record.linear != nullptr) {
      const auto rank = static_cast<std::uint64_t>(record.level.parameter);
      memory.staging += rank * (record.shape.rows + record.shape.cols) * sizeof(float);
      memory.factors += rank * record.shape.cols * sizeof(float);
    }
    if (options.error_feedback && record.level.method != Method::dense) {
      memory.residuals += count * size_of(options.residual);
    }
    if (record.measured_here) memory.windows += 2 * count * sizeof(float);
    if (std::holds_alternative<AccordionPolicy>(options.policy)) {
      memory.windows += count * sizeof(float);
    }
  }
  return memory;
}

}  // namespace lgreco
