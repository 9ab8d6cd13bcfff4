#include "adaptors/torch/comm_hook.h"

#include <ATen/core/jit_type.h>

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
    const auto parameters = bucket.getParameters();
    std::vector<at::Tensor> gradients = bucket.getGradients();
    std::vector<std::size_t> layers;
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const auto found = layers_.find(parameters[i].unsafeGetTensorImpl());
      if (found == layers_.end()) {
        throw ConfigError(
            "[compress] DDP synchronises a parameter that it did not have when "
            "compress() was called; call compress() again on a new DDP");
      }
      layers.push_back(found->second);
      gradients[i] = as_laid_out(gradients[i], parameters[i]);
    }
    auto tensors = std::make_shared<BucketTensors>(std::move(gradients), layers);
    auto done = [future, tensors, buffer = bucket.getBuffer(),
                 translate = translate_](std::exception_ptr failure) {
      try {
        if (failure) std::rethrow_exception(failure);
        tensors->finish();
        future->markCompleted(buffer);
      } catch (...) {
        future->setErrorIfNeeded(translate(std::current_exception()));
      }
    };
    aggregator_->submit(tensors->bucket(bucket.isLast(), may_be_unused_), std::move(done));
  } catch (const std::exception& error) {
    // This bucket will not come, and others of the step wait for it.
    aggregator_->abandon(error.what());
    future->setError(translate_(std::current_exception()));
  }
  return future;
}

at::Tensor CommHook::parseHookResult(const c10::IValue& result) { return result.toTensor(); }

}  // namespace lgreco
