#include "src/engine/host_values.h"

#include <array>
#include <memory>
#include <utility>

#include "lgreco/algorithm.h"
#include "src/engine/gathered_sum.h"
#include "src/engine/sharded_sum.h"

namespace lgreco {
namespace {

std::vector<std::size_t> sum_of(const std::vector<std::size_t>& a,
                                const std::vector<std::size_t>& b) {
  std::vector<std::size_t> sums = a;
  for (std::size_t i = 0; i < a.size(); ++i) sums[i] += b[i];
  return sums;
}

// Three sums: what is summed in one round, and both rounds of what is summed in two. Sharded means
// of one round wait for gather B, so that gather A is as short as can be: the second round cannot
// begin before it has ended. What is only gathered is all in gather A, but for second rounds.
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
      in_one_round().encode(key(), route_of_one(bodies), pool_);
      first_of_two().encode(key(), route_of_first(bodies), pool_);
    } else {
      leave_out_non_finite();
      first_of_two().decode(bodies.gather_a, pool_);
      for_each_layer([](HostLayer& layer) {
        if (layer.rounds() == 2) layer.encode_second_round();
      });
      leave_out_non_finite();
      second_of_two().encode(key(), route_of_second(bodies), pool_);
    }
    take_over_overflows();
  }

  void reduce(int round, const BucketBodies& bodies) override {
    leave_out_non_finite();
    if (round + 1 < sizes_.rounds) {
      first_of_two().reduce(key(), route_of_first(bodies), pool_);
    } else {
      in_one_round().reduce(key(), route_of_one(bodies), pool_);
      second_of_two().reduce(key(), route_of_second(bodies), pool_);
    }
    take_over_overflows();
  }

  void check(const BucketBodies& bodies) override {
    for_each_layer([&](HostLayer& layer) { layer.check(means_of(layer, bodies)); });
  }

  void finish(const BucketBodies& bodies, bool commit) override {
    for_each_layer(
        [&](HostLayer& layer) { layer.finish(context_, means_of(layer, bodies), commit); });
  }

  Findings findings() const override {
    Findings all;
    for (const HostLayer& layer : layers_) {
      all.has_gradient |= layer.findings().has_gradient;
      all.has_large_residual |= layer.findings().has_large_residual;
      all.dropped_residuals += layer.findings().dropped_residuals;
    }
    return all;
  }

 private:
  static std::size_t first_sum(const HostLayer& layer) { return layer.rounds() == 1 ? 0 : 1; }

  void make_sums(std::array<std::vector<Addend>, 3> addends) {
    sizes_.rounds = addends[1].empty() ? 1 : 2;
    if (algorithm_for(settings_.place.ranks) == Algorithm::sharded) {
      make_sharded(std::move(addends));
    } else {
      make_gathered(std::move(addends));
    }
  }

  // In the bodies of scatter A and gather B, what is summed in one round comes first.
  void make_sharded(std::array<std::vector<Addend>, 3> addends) {
    const Place place = settings_.place;
    const std::vector<std::size_t> start(static_cast<std::size_t>(place.ranks), 0);
    const auto add = [&](std::vector<Addend>& own, const std::vector<std::size_t>& scatter_first,
                         const std::vector<std::size_t>& gather_first) -> const ShardedSum& {
      auto sum = std::make_unique<ShardedSum>(std::move(own), place, scatter_first, gather_first);
      const ShardedSum& made = *sum;
      sums_.push_back(std::move(sum));
      return made;
    };
    const ShardedSum& once = add(addends[0], start, start);
    const ShardedSum& first = add(addends[1], once.scatter_bytes(), start);
    const ShardedSum& second = add(addends[2], start, once.gather_bytes());
    sizes_.scatter_a = sum_of(once.scatter_bytes(), first.scatter_bytes());
    sizes_.gather_b = sum_of(once.gather_bytes(), second.gather_bytes());
    if (sizes_.rounds == 1) return;
    sizes_.gather_a = first.gather_bytes();
    sizes_.scatter_b = second.scatter_bytes();
  }

  void make_gathered(std::array<std::vector<Addend>, 3> addends) {
    const auto add = [&](std::vector<Addend>& own, std::size_t at) {
      auto sum = std::make_unique<GatheredSum>(std::move(own), settings_.place, at);
      const std::size_t bytes = sum->message_bytes();
      sums_.push_back(std::move(sum));
      return bytes;
    };
    const auto ranks = static_cast<std::size_t>(settings_.place.ranks);
    const std::size_t once = add(addends[0], 0);
    sizes_.gather_a.assign(ranks, once + add(addends[1], once));
    const std::size_t second = add(addends[2], 0);
    if (sizes_.rounds == 2) sizes_.gather_b.assign(ranks, second);
  }

  Sum& in_one_round() { return *sums_[0]; }
  Sum& first_of_two() { return *sums_[1]; }
  Sum& second_of_two() { return *sums_[2]; }

  Route route_of_one(const BucketBodies& bodies) const {
    return {bodies.scatter_a, sizes_.has_scatters() ? bodies.gather_b : bodies.gather_a};
  }
  static Route route_of_first(const BucketBodies& bodies) {
    return {bodies.scatter_a, bodies.gather_a};
  }
  static Route route_of_second(const BucketBodies& bodies) {
    return {bodies.scatter_b, bodies.gather_b};
  }
  /// Where the means of its last round are.
  const MessageBodies& means_of(const HostLayer& layer, const BucketBodies& bodies) const {
    return (layer.rounds() == 1 ? route_of_one(bodies) : route_of_second(bodies)).gather;
  }

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
  std::vector<std::unique_ptr<Sum>> sums_;
};

}  // namespace

std::unique_ptr<BucketValues> HostValues::bucket(std::span<const std::size_t> layers) {
  return std::make_unique<HostBucket>(layers, layers_, settings_, pool_);
}

}  // namespace lgreco
