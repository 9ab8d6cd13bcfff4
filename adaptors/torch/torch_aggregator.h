// An Aggregator over c10d process groups and tensors. Knows no Python: call it without the GIL.
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "adaptors/torch/comm_hook.h"
#include "adaptors/torch/node_sum.h"
#include "lgreco/aggregator.h"

namespace lgreco {

class TorchAggregator {
 public:
  using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
  using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
  /// How the last owner, this object or DDP's reducer, deletes the engine.
  using Delete = std::function<void(Aggregator*)>;

  /// Whose gradients are summed before they are averaged.
  struct NodeFirst {
    Group node;                        // of Gloo
    std::optional<Group> device_node;  // the same ranks, by the backend of their accelerators
    std::vector<int> nodes;            // rank r of the agreement is of node nodes[r]
    std::vector<int> owners;           // layer i is averaged by the rank owners[i] of a node
  };

  /// Collective, as Aggregator's. Of `layers` the names, shapes and dtypes count; when they are the
  /// model's parameters (`layers_are_parameters`), their values are compared between the ranks, and
  /// `options.parameter` is set here. Of `lanes` each is one, `agreement` joins those who commit
  /// together, when others do than those of the lanes; they are used by nobody else. Node first,
  /// register_hook() is all that takes part; the engine's layers are those that this rank owns.
  /// Throws ConfigError on a layer that cannot be compressed, and what Aggregator throws.
  TorchAggregator(const NamedTensors& layers, AggregatorOptions options,
                  const std::vector<Group>& lanes, const std::optional<Group>& agreement,
                  const std::optional<NodeFirst>& node_first, bool layers_are_parameters,
                  const Delete& delete_engine);

  /// Synchronise the gradients of `reducer` from the next backward pass on. `parameters` are the
  /// `layers` of the constructor, in their order; the rest as CommHook's.
  void register_hook(c10d::Reducer& reducer, const std::vector<at::Tensor>& parameters,
                     bool may_be_unused, CommHook::Translate translate);

  /// A step: each tensor becomes its average over the ranks, in place (on an accelerator, for what
  /// the caller's current stream does next). Layers that only other ranks
  /// give count as zero here. Throws ConfigError, on all ranks, when some rank gives a name that is
  /// no layer's, or another shape or dtype; and the step's failure.
  void average(const std::map<std::string, at::Tensor>& tensors, std::string problem);

  // The same for one who gets the tensors one after another. Called by one thread at a time.

  /// A layer, and at which element of a buffer its own begin, row-major.
  using Placed = std::pair<std::string, std::int64_t>;

  /// Begin to average the `layers` of a buffer, as a part of the step and in one exchange: the
  /// buffer has one dimension, no gaps, and the layers' dtype. It is used until finish_step(), and
  /// kept for as long; what lies between layers stays as it is.
  /// Throws ConfigError, here alone, on a name that is no layer's, on a layer that does not fit
  /// there, and for one that was submitted.
  void submit(const at::Tensor& buffer, const std::vector<Placed>& layers);
  /// End the step and wait: the tensors are averages then, and nothing uses them any more, also
  /// when this throws the step's failure. `problem`: why this rank's part is not complete; all
  /// ranks throw a ConfigError of it.
  void finish_step(const std::string& problem);

  /// With the host memory of copies from accelerators.
  MemoryUse memory() const;

  Aggregator& engine() { return *engine_; }
  const Aggregator& engine() const { return *engine_; }

 private:
  void submit(std::shared_ptr<StagedBucket> staged, const std::string& problem);
  std::size_t index_of(const std::string& name) const;
  std::size_t layer_of(const std::string& name, const at::Tensor& tensor) const;

  std::map<std::string, std::size_t> index_;
  /// A bucket of a step that is not finished.
  struct Submitted {
    std::shared_ptr<StagedBucket> staged;
    std::future<void> ended;
  };
  std::vector<Submitted> open_step_;
  std::shared_ptr<CopyChannels> channels_ = std::make_shared<CopyChannels>();
  std::shared_ptr<Node> node_;  // null: flat
  std::size_t node_bytes_ = 0;  // of its buffers
  std::shared_ptr<Aggregator> engine_;
};

/// A parameter, and whether its gradient is expected to be sparse.
using SynchronisedParameter = std::pair<at::Tensor, bool>;

/// What `reducer` synchronises, in the order of its buckets.
std::vector<SynchronisedParameter> synchronised_parameters(const c10d::Reducer& reducer);

}  // namespace lgreco
