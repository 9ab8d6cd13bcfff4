#include "adaptors/torch/torch_aggregator.h"

#include <ATen/MemoryOverlap.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/strides.h>

#include "adaptors/torch/c10d_communicator.h"
#include "adaptors/torch/float_environment.h"
#include "adaptors/torch/parameter_reader.h"
#include "adaptors/torch/tensor_bridge.h"
#include "lgreco/gather_by_node.h"
#include "lgreco/status.h"

namespace lgreco {

TorchAggregator::TorchAggregator(const NamedTensors& layers, AggregatorOptions options,
                                 const std::vector<Group>& lanes,
                                 const std::optional<Group>& agreement,
                                 const std::optional<NodeFirst>& node_first,
                                 bool layers_are_parameters, const Delete& delete_engine) {
  const DefaultFloatEnvironment environment;  // of the engine's threads
  if (node_first) {
    node_ = std::make_shared<Node>(std::make_unique<C10dCommunicator>(node_first->node),
                                   node_first->device_node.value_or(nullptr), node_first->owners);
    options.has_gradient = [node = node_] { return node->take_has_gradient(); };
    options.give_up = [node = node_] { node->give_up(); };
  }
  std::vector<LayerSpec> specs;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto& [name, tensor] = layers[i];
    LayerSpec spec = layer_spec(name, tensor);
    if (node_) options.model.push_back(spec);
    if (node_ && node_->owner(i) != node_->rank()) continue;
    index_.emplace(name, specs.size());
    specs.push_back(std::move(spec));
  }
  if (node_ && !node_->device_group()) node_bytes_ = node_->buffer_bytes(options.model);
  if (layers_are_parameters) {
    std::vector<at::Tensor> parameters;
    for (const auto& [name, tensor] : layers) parameters.push_back(tensor);
    const auto reader = std::make_shared<ParameterReader>(std::move(parameters), channels_);
    options.parameter = [reader](std::size_t layer) { return reader->whole(layer); };
    if (reader->is_any_elsewhere())
      options.parameter_sample = [reader] { return reader->sample(); };
  }
  Groups groups;
  for (const Group& lane : lanes) groups.lanes.push_back(std::make_unique<C10dCommunicator>(lane));
  if (agreement) groups.agreement = std::make_unique<C10dCommunicator>(*agreement);
  if (node_first) {
    groups.agreement = gather_by_node(std::move(groups.agreement), node_first->nodes);
  }
  engine_ = {new Aggregator(std::move(specs), std::move(options), std::move(groups)),
             delete_engine};
}

void TorchAggregator::register_hook(c10d::Reducer& reducer,
                                    const std::vector<at::Tensor>& parameters, bool may_be_unused,
                                    CommHook::Translate translate) {
  reducer.register_comm_hook(std::make_unique<CommHook>(engine_, node_, channels_, parameters,
                                                        may_be_unused, std::move(translate)));
}

// The layers that some rank gives, in the order of registration, so that messages fit on every rank
// and hold nothing else.
void TorchAggregator::average(const std::map<std::string, at::Tensor>& tensors,
                              std::string problem) {
  std::vector<at::Tensor> given(engine_->layers().size());
  std::vector<bool> is_given(given.size());
  try {
    for (const auto& [name, tensor] : tensors) {
      const std::size_t layer = layer_of(name, tensor);
      given[layer] = tensor.detach();
      is_given[layer] = true;
    }
  } catch (const ConfigError& error) {
    problem = error.what();
  }
  const std::vector<bool> takes_part = engine_->agree_on_layers(is_given, problem);
  const c10::InferenceMode any_tensor;  // only in this mode may those made in it be written to
  std::vector<at::Tensor> values;
  std::vector<std::size_t> layers;
  for (std::size_t layer = 0; layer < given.size(); ++layer) {
    if (!takes_part[layer]) continue;
    const LayerSpec& spec = engine_->layers()[layer];
    layers.push_back(layer);
    values.push_back(is_given[layer] ? given[layer]
                                     : at::zeros(spec.shape, scalar_type(spec.dtype)));
  }
  const auto staged = std::make_shared<StagedBucket>(std::move(values), layers, *channels_);
  Bucket bucket = staged->bucket(/*last=*/true);
  for (Gradient& gradient : bucket.gradients) gradient.present = is_given[gradient.layer];
  engine_->exchange(bucket);
  staged->store();
  staged->let_current_streams_wait();
}

void TorchAggregator::submit(const at::Tensor& buffer, const std::vector<Placed>& layers) {
  BucketLayout layout;
  for (const auto& [name, offset] : layers) {
    const std::size_t layer = index_of(name);
    const LayerSpec& spec = engine_->layers()[layer];
    const bool fits = buffer.dim() == 1 && buffer.is_contiguous() && offset >= 0 &&
                      offset + static_cast<std::int64_t>(spec.count()) <= buffer.numel();
    if (!fits || buffer.scalar_type() != scalar_type(spec.dtype)) {
      throw ConfigError("[aggregator] layer '" + name +
                        "' does not fit into its buffer, or has another dtype");
    }
    layout.layers.push_back(layer);
    layout.views.push_back({.sizes = spec.shape,
                            .strides = at::IntArrayRef(c10::contiguous_strides(spec.shape)).vec(),
                            .offset = offset});
  }
  // detach(): what a thread of the library frees must have no object in Python.
  submit(
      std::make_shared<StagedBucket>(buffer.detach(), layout, /*may_be_unused=*/false, *channels_),
      "");
}

// After a failure the last bucket ends first: lanes may still be at work on the earlier ones.
void TorchAggregator::finish_step(const std::string& problem) {
  submit(nullptr, problem);
  std::vector<Submitted> step = std::move(open_step_);
  open_step_.clear();
  for (const Submitted& bucket : step) bucket.ended.wait();
  step.back().ended.get();
  for (const Submitted& bucket : step) {
    if (!bucket.staged) continue;
    bucket.staged->store();
    bucket.staged->let_current_streams_wait();
  }
}

// The last bucket is none.
void TorchAggregator::submit(std::shared_ptr<StagedBucket> staged, const std::string& problem) {
  Bucket bucket = staged ? staged->bucket(/*last=*/false) : Bucket{.problem = problem};
  const auto ended = std::make_shared<std::promise<void>>();
  engine_->submit(bucket, [staged, ended](const std::exception_ptr& failure) {
    failure ? ended->set_exception(failure) : ended->set_value();
  });
  open_step_.push_back({std::move(staged), ended->get_future()});
}

MemoryUse TorchAggregator::memory() const {
  MemoryUse memory = engine_->memory();
  memory.staging += channels_->bytes() + node_bytes_;
  return memory;
}

std::vector<SynchronisedParameter> synchronised_parameters(const c10d::Reducer& reducer) {
  std::vector<SynchronisedParameter> parameters;
  for (const c10d::GradBucket& bucket : reducer.get_grad_buckets(/*return_zero_tensors=*/false)) {
    const bool is_sparse = !bucket.getBuffer().defined();  // it has no buffer until the backward
    for (const at::Tensor& parameter : bucket.getParameters()) {
      parameters.emplace_back(parameter, is_sparse);
    }
  }
  return parameters;
}

std::size_t TorchAggregator::index_of(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) {
    throw ConfigError("[aggregator] '" + name + "' is no registered layer");
  }
  return found->second;
}

std::size_t TorchAggregator::layer_of(const std::string& name, const at::Tensor& tensor) const {
  const std::size_t layer = index_of(name);
  const LayerSpec spec = layer_spec(name, tensor);
  if (!(spec == engine_->layers()[layer])) {
    throw ConfigError("[aggregator] layer '" + name +
                      "' has another shape or dtype than it was registered with");
  }
  if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes) {
    throw ConfigError("[aggregator] layer '" + name +
                      "' has elements that share memory (expand()); give a copy: contiguous()");
  }
  return layer;
}

}  // namespace lgreco
