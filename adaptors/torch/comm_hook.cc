#include "adaptors/torch/comm_hook.h"

#include <ATen/core/jit_type.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <unordered_set>

#include "adaptors/torch/device_node_sum.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

// The reducer lays a gradient out as its parameter is laid out (channels-last, for example), which
// GradBucket's own views do not show.
BucketLayout::View view_of(const at::Tensor& gradient, const at::Tensor& parameter,
                           const at::Tensor& buffer) {
  const at::Tensor& shown = parameter.is_non_overlapping_and_dense() ? parameter : gradient;
  return {.sizes = shown.sizes().vec(),
          .strides = shown.strides().vec(),
          .offset = gradient.storage_offset() - buffer.storage_offset()};
}

// A future that knows its device makes whoever waits for it have their stream wait.
c10::intrusive_ptr<c10::ivalue::Future> future_of(const at::Tensor& buffer) {
  std::vector<c10::Device> devices;
  if (!buffer.is_cpu()) devices.push_back(buffer.device());
  return c10::make_intrusive<c10::ivalue::Future>(c10::TensorType::get(), std::move(devices));
}

}  // namespace

CommHook::CommHook(std::shared_ptr<Aggregator> aggregator, std::shared_ptr<Node> node,
                   std::shared_ptr<CopyChannels> channels,
                   const std::vector<at::Tensor>& parameters, bool may_be_unused,
                   Translate translate)
    : aggregator_(std::move(aggregator)),
      node_(std::move(node)),
      channels_(std::move(channels)),
      may_be_unused_(may_be_unused),
      translate_(std::move(translate)) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    layers_.emplace(parameters[i].unsafeGetTensorImpl(), i);
  }
}

c10::intrusive_ptr<c10::ivalue::Future> CommHook::runHook(c10d::GradBucket& bucket) {
  const at::Tensor& buffer = bucket.getBuffer();
  auto future = future_of(buffer);
  try {
    const std::shared_ptr<BucketUnderWay> staged = under_way(buffer, known_of(bucket));
    auto done = [future, staged, buffer,
                 translate = translate_](const std::exception_ptr& failure) {
      try {
        if (failure) std::rethrow_exception(failure);
        staged->store();
        const c10::MultiStreamGuard on_streams(staged->streams());  // for whose ends it stands
        future->markCompleted(buffer);
      } catch (...) {
        future->setErrorIfNeeded(translate(std::current_exception()));
      }
    };
    aggregator_->submit(staged->bucket(bucket.isLast()), std::move(done));
  } catch (const std::exception& error) {
    // This bucket will not come, and others of the step wait for it.
    aggregator_->abandon(error.what());
    future->setError(translate_(std::current_exception()));
  }
  return future;
}

std::shared_ptr<BucketUnderWay> CommHook::under_way(const at::Tensor& buffer,
                                                    const Known& known) const {
  if (known.in_node_on_device) {
    return std::make_shared<DeviceNodeSum>(buffer, known.layout, known.in_node_on_device, node_,
                                           channels_->of(buffer.device()), may_be_unused_);
  }
  return std::make_shared<StagedBucket>(buffer, known.layout, may_be_unused_, *channels_,
                                        known.in_node);
}

const CommHook::Known& CommHook::known_of(const c10d::GradBucket& bucket) {
  const std::vector<at::Tensor> parameters = bucket.getParameters();
  const c10::TensorImpl* first = parameters.at(0).unsafeGetTensorImpl();
  const auto found = known_.find(first);
  const bool is_known =
      found != known_.end() &&
      std::ranges::equal(parameters, found->second.parameters, {},
                         [](const at::Tensor& p) { return p.unsafeGetTensorImpl(); });
  if (is_known) return found->second;
  Known known = look_at(bucket, parameters);
  // Regrouped: what they were in before does not come again, and holds memory of the node.
  const std::unordered_set<const c10::TensorImpl*> now(known.parameters.begin(),
                                                       known.parameters.end());
  std::erase_if(known_, [&](const auto& entry) {
    return std::ranges::any_of(entry.second.parameters,
                               [&](const auto* parameter) { return now.contains(parameter); });
  });
  return known_.emplace(first, std::move(known)).first->second;
}

CommHook::Known CommHook::look_at(const c10d::GradBucket& bucket,
                                  const std::vector<at::Tensor>& parameters) const {
  const std::vector<at::Tensor> gradients = bucket.getGradients();
  Known known;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const auto found = layers_.find(parameters[i].unsafeGetTensorImpl());
    if (found == layers_.end()) {
      throw ConfigError(
          "[compress] DDP synchronises a parameter that it did not have when "
          "compress() was called; call compress() again on a new DDP");
    }
    known.parameters.push_back(found->first);
    known.layout.layers.push_back(found->second);
    known.layout.views.push_back(view_of(gradients[i], parameters[i], bucket.getBuffer()));
    known.layout.is_contiguous &= parameters[i].is_contiguous();
  }
  if (node_) {
    std::vector<std::int64_t> elements;
    elements.reserve(gradients.size());
    for (const at::Tensor& gradient : gradients) elements.push_back(gradient.numel());
    if (!bucket.getBuffer().is_cpu() && node_->device_group()) {
      known.in_node_on_device = std::make_shared<NodeLayout>(*node_, known.layout.layers, elements);
    } else {
      known.in_node = std::make_shared<NodeBucket>(node_, known.layout.layers, elements,
                                                   bucket.getBuffer().scalar_type());
    }
  }
  return known;
}

at::Tensor CommHook::parseHookResult(const c10::IValue& result) { return result.toTensor(); }

}  // namespace lgreco
