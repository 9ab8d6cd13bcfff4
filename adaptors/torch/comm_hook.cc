#include "adaptors/torch/comm_hook.h"

#include <ATen/core/jit_type.h>

#include <algorithm>

#include "lgreco/status.h"

namespace lgreco {
namespace {

// The reducer lays a gradient out as its parameter is laid out (channels-last, for example), which
// GradBucket's own views do not show.
at::Tensor as_laid_out(const at::Tensor& gradient, const at::Tensor& parameter) {
  if (!parameter.is_non_overlapping_and_dense()) return gradient;
  return gradient.as_strided(parameter.sizes(), parameter.strides(), gradient.storage_offset());
}

}  // namespace

CommHook::CommHook(std::shared_ptr<Aggregator> aggregator,
                   const std::vector<at::Tensor>& parameters, bool may_be_unused,
                   Translate translate)
    : aggregator_(std::move(aggregator)),
      may_be_unused_(may_be_unused),
      translate_(std::move(translate)) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    layers_.emplace(parameters[i].unsafeGetTensorImpl(), i);
  }
}

c10::intrusive_ptr<c10::ivalue::Future> CommHook::runHook(c10d::GradBucket& bucket) {
  auto future = c10::make_intrusive<c10::ivalue::Future>(c10::TensorType::get());
  try {
    const std::vector<at::Tensor> parameters = bucket.getParameters();
    const Layout& layout = layout_of(bucket, parameters);
    const bool is_in_place = !may_be_unused_ && std::ranges::all_of(parameters, [](const auto& p) {
      return p.is_contiguous();
    });
    const auto tensors = is_in_place ? nullptr : tensors_of(bucket, layout, parameters);
    auto done = [future, tensors, buffer = bucket.getBuffer(),
                 translate = translate_](std::exception_ptr failure) {
      try {
        if (failure) std::rethrow_exception(failure);
        if (tensors) tensors->store();
        future->markCompleted(buffer);
      } catch (...) {
        future->setErrorIfNeeded(translate(std::current_exception()));
      }
    };
    Bucket handed_over = tensors ? tensors->bucket(bucket.isLast()) : in_place(bucket, layout);
    if (tensors) {
      handed_over.fetch = [tensors, may_be_unused = may_be_unused_](std::span<Gradient> gradients,
                                                                    Deadline) {
        tensors->load();
        if (may_be_unused) tensors->mark_zeros_absent(gradients);
      };
    }
    aggregator_->submit(handed_over, std::move(done));
  } catch (const std::exception& error) {
    // This bucket will not come, and others of the step wait for it.
    aggregator_->abandon(error.what());
    future->setError(translate_(std::current_exception()));
  }
  return future;
}

const CommHook::Layout& CommHook::layout_of(const c10d::GradBucket& bucket,
                                            const std::vector<at::Tensor>& parameters) {
  Layout& layout = layouts_[parameters.at(0).unsafeGetTensorImpl()];
  const bool is_known =
      std::ranges::equal(parameters, layout.parameters, {},
                         [](const at::Tensor& p) { return p.unsafeGetTensorImpl(); });
  if (!is_known) layout = look_at(bucket, parameters);
  return layout;
}

CommHook::Layout CommHook::look_at(const c10d::GradBucket& bucket,
                                   const std::vector<at::Tensor>& parameters) const {
  const std::vector<at::Tensor> gradients = bucket.getGradients();
  const at::Tensor& buffer = bucket.getBuffer();
  Layout layout;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const auto found = layers_.find(parameters[i].unsafeGetTensorImpl());
    if (found == layers_.end()) {
      throw ConfigError(
          "[compress] DDP synchronises a parameter that it did not have when "
          "compress() was called; call compress() again on a new DDP");
    }
    layout.parameters.push_back(found->first);
    layout.layers.push_back(found->second);
    const auto elements = gradients[i].storage_offset() - buffer.storage_offset();
    layout.offsets.push_back(static_cast<std::size_t>(elements) * buffer.element_size());
  }
  return layout;
}

Bucket CommHook::in_place(const c10d::GradBucket& bucket, const Layout& layout) const {
  auto* begin = static_cast<std::byte*>(bucket.getBuffer().mutable_data_ptr());
  Bucket result{.gradients = {}, .last = bucket.isLast()};
  result.gradients.reserve(layout.layers.size());
  for (std::size_t i = 0; i < layout.layers.size(); ++i) {
    result.gradients.push_back({.layer = layout.layers[i], .data = begin + layout.offsets[i]});
  }
  return result;
}

std::shared_ptr<BucketTensors> CommHook::tensors_of(
    const c10d::GradBucket& bucket, const Layout& layout,
    const std::vector<at::Tensor>& parameters) const {
  std::vector<at::Tensor> gradients = bucket.getGradients();
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    gradients[i] = as_laid_out(gradients[i], parameters[i]);
  }
  return std::make_shared<BucketTensors>(std::move(gradients), layout.layers);
}

at::Tensor CommHook::parseHookResult(const c10::IValue& result) { return result.toTensor(); }

}  // namespace lgreco
