// The DDP communication hook: hands each bucket to the aggregator's lane and returns at once.
#pragma once

#include <torch/csrc/distributed/c10d/comm.hpp>

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "adaptors/torch/bucket_under_way.h"
#include "adaptors/torch/host_copy.h"
#include "adaptors/torch/node_sum.h"
#include "adaptors/torch/staged_bucket.h"
#include "lgreco/aggregator.h"

namespace lgreco {

/// Called by DDP's reducer on the autograd thread, without the GIL; never blocks it. The future is
/// completed on the aggregator's lane; where gradients are on an accelerator, DDP's stream then
/// waits for the averages to be there. Layers are found by the identity of the parameter, so that
/// the reducer may regroup its buckets at any time; where gradients lie in a bucket is looked at
/// when its parameters are first seen together.
class CommHook final : public c10d::CommHookInterface {
 public:
  /// Turns an error of the library into one that reaches Python with its type.
  using Translate = std::function<std::exception_ptr(std::exception_ptr)>;

  /// `parameters[i]` is the aggregator's layer i or, with a `node`, the model's, of which the
  /// aggregator has those that this rank owns. `may_be_unused`: parameters may lack a gradient
  /// in some steps (find_unused_parameters, static_graph); the reducer then hands over zeros.
  CommHook(std::shared_ptr<Aggregator> aggregator, std::shared_ptr<Node> node,
           std::shared_ptr<CopyChannels> channels, const std::vector<at::Tensor>& parameters,
           bool may_be_unused, Translate translate);

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override;
  at::Tensor parseHookResult(const c10::IValue& result) override;

 private:
  /// Parameters that came together before, and where their gradients are.
  struct Known {
    std::vector<const c10::TensorImpl*> parameters;
    BucketLayout layout;
    std::shared_ptr<NodeBucket> in_node;                  // summed on the host, or ...
    std::shared_ptr<const NodeLayout> in_node_on_device;  // ... on the device; or flat
  };

  std::shared_ptr<BucketUnderWay> under_way(const at::Tensor& buffer, const Known& known) const;
  const Known& known_of(const c10d::GradBucket& bucket);
  Known look_at(const c10d::GradBucket& bucket, const std::vector<at::Tensor>& parameters) const;

  std::shared_ptr<Aggregator> aggregator_;
  std::shared_ptr<Node> node_;
  std::shared_ptr<CopyChannels> channels_;
  std::unordered_map<const c10::TensorImpl*, std::size_t> layers_;
  std::unordered_map<const c10::TensorImpl*, Known> known_;  // by the first parameter
  bool may_be_unused_;
  Translate translate_;
};

}  // namespace lgreco
