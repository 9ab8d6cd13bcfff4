#include "src/engine/host_values.h"

#include <algorithm>
#include <array>
#include <utility>

namespace lgreco {
namespace {

std::vector<std::size_t> sum_of(const std::vector<std::size_t>& a,
                                const std::vector<std::size_t>& b) {
  std::vector<std::size_t> sums = a;
  for (std::size_t i = 0; i < a.size(); ++i) sums[i] += b[i];
  return sums;
}

// Three sums: what is summed in one round, from scatter A to gather B, and both rounds of what is
// summed in two. Means of one round wait for gather B, so that gather A is as short as can be: the
// second round cannot begin before it has ended.
class HostBucket final : public BucketValues {
 public:
  HostBucket(std::span<const std::size_t> layers, std::vector<LayerRecord>& records,
             const HostSettings& settings, WorkerPool& pool)
      : settings_(settings), pool_(pool), presence_(layers.size()) {
    layers_.reserve(layers.size());
    std::array<std::vector<Addend>, 3> addends;  // as in sums_
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const HostLayer& layer = layers_.emplace_back(records[layers[i]], settings_, presence_[i]);
      for (int round = 0; round < layer.rounds(); ++round) {
        addends[first_sum(layer) + static_cast<std::size_t>(round)].push_back(layer.addend(round));
      }
    }
    make_sums(std::move(addends));
    std::array<std::size_t, 3> joined{};
    for (HostLayer& layer : layers_) {
      const std::size_t first = first_sum(layer);
      layer.join(std::span(sums_).subspan(first, static_cast<std::size_t>(layer.rounds())),
                 joined[first]++);
    }
  }

  const MessageSizes& sizes() const override { return sizes_; }

  void start(std::span<const Gradient> gradients, const StepContext& context) override {
    context_ = context;
    for (std::size_t i = 0; i < layers_.size(); ++i) layers_[i].start(gradients[i]);
  }

  std::span<Presence> presence() override { return presence_; }

  void encode(int round, const BucketBodies& bodies) override {
    if (round == 0) {
      for_each_layer([&](HostLayer& layer) { layer.load(context_); });
      leave_out_non_finite();
      in_one_round().encode(key(), bodies.scatter_a, pool_);
      first_of_two().encode(key(), bodies.scatter_a, pool_);
    } else {
      leave_out_non_finite();
      first_of_two().decode(bodies.gather_a, pool_);
      for_each_layer([](HostLayer& layer) {
        if (layer.rounds() == 2) layer.encode_second_round();
      });
      leave_out_non_finite();
      second_of_two().encode(key(), bodies.scatter_b, pool_);
    }
    take_over_overflows();
  }

  void reduce(int round, const BucketBodies& bodies) override {
    leave_out_non_finite();
    if (round + 1 < sizes_.rounds()) {
      first_of_two().reduce(key(), bodies.scatter_a, bodies.gather_a, pool_);
    } else {
      in_one_round().reduce(key(), bodies.scatter_a, bodies.gather_b, pool_);
      second_of_two().reduce(key(), bodies.scatter_b, bodies.gather_b, pool_);
    }
    take_over_overflows();
  }

  void check(const BucketBodies& bodies) override {
    for_each_layer([&](HostLayer& layer) { layer.check(bodies.gather_b); });
  }

  void finish(const BucketBodies& bodies, bool commit) override {
    for_each_layer([&](HostLayer& layer) { layer.finish(context_, bodies.gather_b, commit); });
  }

  bool has_gradient() const override {
    return std::any_of(layers_.begin(), layers_.end(),
                       [](const HostLayer& layer) { return layer.has_gradient(); });
  }

 private:
  static std::size_t first_sum(const HostLayer& layer) { return layer.rounds() == 1 ? 0 : 1; }

  // In the bodies of scatter A and gather B, what is summed in one round comes first.
  void make_sums(std::array<std::vector<Addend>, 3> addends) {
    const bool two_rounds = !addends[1].empty();
    const Place place = settings_.place;
    const std::vector<std::size_t> start(static_cast<std::size_t>(place.ranks), 0);
    sums_.reserve(addends.size());
    sums_.emplace_back(std::move(addends[0]), place, start, start);
    const std::vector<std::size_t>& once = in_one_round().message_bytes();
    sums_.emplace_back(std::move(addends[1]), place, once, start);
    sums_.emplace_back(std::move(addends[2]), place, start, once);
    sizes_.scatter_a = sum_of(once, first_of_two().message_bytes());
    sizes_.gather_b = sum_of(once, second_of_two().message_bytes());
    if (!two_rounds) return;
    sizes_.gather_a = first_of_two().message_bytes();
    sizes_.scatter_b = second_of_two().message_bytes();
  }

  ShardedSum& in_one_round() { return sums_[0]; }
  ShardedSum& first_of_two() { return sums_[1]; }
  ShardedSum& second_of_two() { return sums_[2]; }

  /// Each sum puts the layer's own into it.
  RandomKey key() const { return {settings_.seed, context_.step, 0}; }

  template <typename Work>
  void for_each_layer(const Work& work) {
    pool_.for_each(layers_.size(), [&](std::size_t i) { work(layers_[i]); });
  }
  void leave_out_non_finite() {
    for (HostLayer& layer : layers_) layer.leave_out_if_non_finite();
  }
  void take_over_overflows() {
    for (HostLayer& layer : layers_) layer.take_over_overflow();
  }

  const HostSettings& settings_;
  WorkerPool& pool_;
  StepContext context_;
  MessageSizes sizes_;
  std::vector<Presence> presence_;
  std::vector<HostLayer> layers_;
  std::vector<ShardedSum> sums_;
};

}  // namespace

std::unique_ptr<BucketValues> HostValues::bucket(std::span<const std::size_t> layers) {
  return std::make_unique<HostBucket>(layers, layers_, settings_, pool_);
}

}  // namespace lgreco
