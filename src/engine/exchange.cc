#include "src/engine/exchange.h"

#include <limits>

#include "src/kernels/cast.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

void read_gradient(const Gradient& gradient, DType dtype, std::span<float> values) {
  if (!gradient.present) {
    std::fill(values.begin(), values.end(), 0.0f);
    return;
  }
  switch (dtype) {
    case DType::f32: {
      const auto* data = static_cast<const float*>(gradient.data);
      std::copy_n(data, values.size(), values.begin());
      break;
    }
    case DType::bf16:
      kernels::from_bf16(static_cast<const std::uint16_t*>(gradient.data), values.size(),
                         values.data());
      break;
    case DType::f16:
      kernels::from_f16(static_cast<const std::uint16_t*>(gradient.data), values.size(),
                        values.data());
      break;
  }
}

void write_gradient(std::span<const float> values, DType dtype, void* data) {
  switch (dtype) {
    case DType::f32:
      std::copy(values.begin(), values.end(), static_cast<float*>(data));
      break;
    case DType::bf16:
      kernels::to_bf16(values.data(), values.size(), static_cast<std::uint16_t*>(data));
      break;
    case DType::f16:
      kernels::to_f16(values.data(), values.size(), static_cast<std::uint16_t*>(data));
      break;
  }
}

// A 16-bit gradient cannot hold the average exactly. What its rounding loses goes into the
// residual.
void keep_rounding_loss(std::span<const float> result, const Gradient& gradient,
                        LayerRecord& record) {
  std::vector<float> written(result.size());
  read_gradient({.layer = gradient.layer, .data = gradient.data, .present = true},
                record.spec.dtype, written);
  // The average was finite but may round to infinity; then the step is lost to the caller anyway.
  if (!kernels::all_finite(written.data(), written.size())) return;
  kernels::subtract(result.data(), written.data(), result.size(), written.data());
  kernels::add(record.residual.data(), written.data(), result.size(), record.residual.data());
}

}  // namespace

Exchange::Exchange(const Bucket& bucket, std::vector<LayerRecord>& layers,
                   const ExchangeSettings& settings, Communicator& communicator)
    : bucket_(bucket),
      settings_(settings),
      communicator_(communicator),
      parts_(make_parts(layers)),
      linear_(parts_that_are(/*coded=*/false), settings),
      coded_(parts_that_are(/*coded=*/true), settings, communicator.rank(), communicator.size()) {}

std::vector<ExchangePart> Exchange::make_parts(std::vector<LayerRecord>& layers) {
  std::size_t total = 0;
  for (const Gradient& gradient : bucket_.gradients) total += layers[gradient.layer].shape.count();
  values_.resize(total);
  results_.resize(total);
  std::vector<ExchangePart> parts;
  std::size_t at = 0;
  for (const Gradient& gradient : bucket_.gradients) {
    LayerRecord& record = layers[gradient.layer];
    const std::size_t count = record.shape.count();
    parts.push_back({.record = &record,
                     .values = std::span(values_).subspan(at, count),
                     .result = std::span(results_).subspan(at, count)});
    at += count;
  }
  return parts;
}

std::vector<ExchangePart*> Exchange::parts_that_are(bool coded) {
  std::vector<ExchangePart*> chosen;
  for (ExchangePart& part : parts_) {
    if (is_coded(part.record->level.method) == coded) chosen.push_back(&part);
  }
  return chosen;
}

void Exchange::take_in() {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    ExchangePart& part = parts_[i];
    const Gradient& gradient = bucket_.gradients[i];
    const LayerRecord& record = *part.record;
    float* values = part.values.data();
    read_gradient(gradient, record.spec.dtype, part.values);
    if (!record.residual.empty()) {
      kernels::add(values, record.residual.data(), part.values.size(), values);
    }
    part.presence = gradient.present ? Presence::present : Presence::absent;
    if (!kernels::all_finite(values, part.values.size())) {
      part.presence = Presence::non_finite;
      std::fill(part.values.begin(), part.values.end(), 0.0f);
    }
  }
  linear_.encode(0);
  coded_.encode();
}

void Exchange::round_a() {
  linear_.reduce(0, communicator_);
  coded_.scatter(communicator_);
}

void Exchange::between() {
  linear_.encode(1);
  coded_.reduce();
}

void Exchange::round_b() {
  linear_.reduce(1, communicator_);
  coded_.gather(communicator_);
}

void Exchange::give_out() {
  linear_.decode();
  coded_.decode();
  linear_.commit();
  coded_.commit();
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const ExchangePart& part = parts_[i];
    write_result(part, bucket_.gradients[i]);
    if (!settings_.collect_window || part.presence != Presence::present) continue;
    LayerRecord& record = *part.record;
    record.window.resize(record.shape.count());
    kernels::add(record.window.data(), part.values.data(), part.values.size(),
                 record.window.data());
    ++record.window_steps;
  }
}

void Exchange::write_result(const ExchangePart& part, const Gradient& gradient) const {
  if (part.presence != Presence::present) {
    const bool absent = part.presence == Presence::absent;
    std::fill(part.result.begin(), part.result.end(),
              absent ? 0.0f : std::numeric_limits<float>::quiet_NaN());
  }
  write_gradient(part.result, part.record->spec.dtype, gradient.data);
  if (part.presence == Presence::present && settings_.error_feedback &&
      part.record->spec.dtype != DType::f32) {
    keep_rounding_loss(part.result, gradient, *part.record);
  }
}

bool Exchange::overflowed() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const ExchangePart& part) {
    return part.presence == Presence::non_finite;
  });
}

}  // namespace lgreco
