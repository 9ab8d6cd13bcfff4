#include "lgreco/aggregator.h"

#include <cmath>
#include <future>
#include <optional>
#include <set>
#include <utility>

#include "lgreco/status.h"
#include "src/base/stopwatch.h"
#include "src/engine/exchange.h"
#include "src/engine/lane.h"
#include "src/engine/layer_record.h"
#include "src/engine/planning.h"
#include "src/kernels/elementwise.h"

namespace lgreco {
namespace {

std::vector<LayerRecord> make_records(std::vector<LayerSpec> layers) {
  std::vector<LayerRecord> records;
  std::set<std::string> names;
  for (LayerSpec& layer : layers) {
    if (!names.insert(layer.name).second) {
      throw ConfigError("[aggregator] two layers are named '" + layer.name +
                        "'; a name must identify one layer");
    }
    records.emplace_back(std::move(layer));
  }
  return records;
}

// The exception in flight as the same kind of Error with `place` in front.
std::exception_ptr located(const std::string& place) {
  try {
    throw;
  } catch (const PeerError& error) {
    return std::make_exception_ptr(PeerError(place + error.what()));
  } catch (const ProtocolError& error) {
    return std::make_exception_ptr(ProtocolError(place + error.what()));
  } catch (const ConfigError& error) {
    return std::make_exception_ptr(ConfigError(place + error.what()));
  } catch (const std::exception& error) {
    return std::make_exception_ptr(Error(place + error.what()));
  }
}

bool fits(const std::vector<float>& values, std::size_t count) {
  return values.empty() ||
         (values.size() == count && kernels::all_finite(values.data(), values.size()));
}

void check_layer(const LayerState& state, const LayerRecord& record) {
  const std::size_t columns = record.shape.cols;
  const bool factor_fits =
      fits(state.factor, state.factor.size()) &&
      (columns == 0 ? state.factor.empty() : state.factor.size() % columns == 0);
  if (fits(state.residual, record.shape.count()) && factor_fits &&
      fits(state.window, record.shape.count())) {
    return;
  }
  throw StateError("[state] layer '" + record.spec.name +
                   "': the saved tensors have another size than the layer, or are not finite");
}

}  // namespace

class Aggregator::Impl {
 public:
  Impl(std::vector<LayerSpec> layers, AggregatorOptions options,
       std::unique_ptr<Communicator> communicator)
      : specs(layers),
        options_(std::move(options)),
        records_(make_records(std::move(layers))),
        planning_(records_, options_),
        communicator_(std::move(communicator)) {
    use(planning_.first_plan());
  }

  void submit(Bucket bucket, std::function<void(std::exception_ptr)> done) {
    lane_.submit([this, bucket = std::move(bucket), done = std::move(done)](bool dropped) {
      if (dropped) {
        done(std::make_exception_ptr(PeerError("[aggregator] closed before this bucket's turn")));
        return;
      }
      if (!failure_) run(bucket);
      done(failure_);
      if (!failure_ && bucket.last) end_step();
    });
  }

  AggregatorState state() const {
    AggregatorState state{.rank = communicator_.rank(),
                          .size = communicator_.size(),
                          .step = step_,
                          .plan = plan_,
                          .stats = stats(),
                          .layers = {}};
    for (const LayerRecord& record : records_) {
      state.layers.push_back({.residual = record.residual,
                              .factor = record.linear_state.factor,
                              .window = record.window,
                              .window_steps = record.window_steps});
    }
    return state;
  }

  void load_state(AggregatorState state) {
    check_state(state);
    for (std::size_t i = 0; i < records_.size(); ++i) {
      LayerState& layer = state.layers[i];
      records_[i].residual = std::move(layer.residual);
      records_[i].linear_state.factor = std::move(layer.factor);
      records_[i].window = std::move(layer.window);
      records_[i].window_steps = layer.window_steps;
    }
    step_ = state.step;
    bucket_ = 0;
    stats_ = state.stats;
    counted_ = communicator_.traffic();  // what this process sent so far is not the saved run's
    use(std::move(state.plan));
  }

  Stats stats() const {
    Stats stats = stats_;
    const Traffic& traffic = communicator_.traffic();
    stats.steps = step_;
    stats.bytes_sent += traffic.bytes_sent - counted_.bytes_sent;
    stats.bytes_received += traffic.bytes_received - counted_.bytes_received;
    stats.wait_s += traffic.seconds - counted_.seconds;
    double squares = 0;
    for (const LayerRecord& record : records_) {
      squares += kernels::sum_squares(record.residual.data(), record.residual.size());
    }
    stats.residual_norm = std::sqrt(squares);
    return stats;
  }

  const Plan& plan() const { return plan_; }

  /// All members but `specs` are for its thread alone.
  Lane& lane() const { return lane_; }

  const std::vector<LayerSpec> specs;

 private:
  void use(Plan plan) {
    for (std::size_t i = 0; i < records_.size(); ++i) {
      if (records_[i].level != plan.levels[i]) records_[i].use(plan.levels[i]);
    }
    plan_ = std::move(plan);
  }

  void run(const Bucket& bucket) {
    const char* phase = "taking in the gradients";
    try {
      std::optional<Exchange> exchange;
      {
        const Stopwatch watch(stats_.encode_s);
        exchange.emplace(bucket, records_, settings(), communicator_);
        exchange->take_in();
      }
      phase = "round A";
      exchange->round_a();
      phase = "reducing";
      {
        const Stopwatch watch(stats_.encode_s);
        exchange->between();
      }
      phase = "round B";
      exchange->round_b();
      phase = "giving out the averages";
      const Stopwatch watch(stats_.decode_s);
      exchange->give_out();
      overflowed_ |= exchange->overflowed();
      stats_.dense_bytes += dense_bytes(bucket);
      ++bucket_;
    } catch (...) {
      failure_ = located("[rank " + std::to_string(communicator_.rank()) + ", step " +
                         std::to_string(step_) + ", bucket " + std::to_string(bucket_) + ", " +
                         phase + "] ");
    }
  }

  // Plans while the caller already computes: the next bucket waits on the lane, nobody else.
  void end_step() {
    try {
      stats_.overflow_steps += overflowed_ ? 1 : 0;
      overflowed_ = false;
      bucket_ = 0;
      ++step_;
      if (!planning_.due(step_)) return;
      const Stopwatch watch(stats_.plan_s);
      use(planning_.next_plan(step_, plan_, records_, communicator_, stats_));
    } catch (...) {
      failure_ = located("[rank " + std::to_string(communicator_.rank()) + ", planning for step " +
                         std::to_string(step_) + "] ");
    }
  }

  ExchangeSettings settings() const {
    return {.seed = options_.seed,
            .step = step_,
            .error_feedback = options_.error_feedback,
            .collect_window = planning_.collects(step_)};
  }

  std::uint64_t dense_bytes(const Bucket& bucket) const {
    std::uint64_t bytes = 0;
    for (const Gradient& gradient : bucket.gradients) {
      const LayerRecord& record = records_[gradient.layer];
      bytes += record.shape.count() * size_of(record.spec.dtype);
    }
    const auto ranks = static_cast<std::uint64_t>(communicator_.size());
    return 2 * (ranks - 1) * bytes / ranks;
  }

  void check_state(const AggregatorState& state) const {
    if (state.rank != communicator_.rank() || state.size != communicator_.size()) {
      throw StateError("[state] saved by rank " + std::to_string(state.rank) + " of " +
                       std::to_string(state.size) + ", this is rank " +
                       std::to_string(communicator_.rank()) + " of " +
                       std::to_string(communicator_.size()) + "; load each rank's own file");
    }
    bool same_layers = state.layers.size() == records_.size() &&
                       state.plan.layers.size() == records_.size() &&
                       state.plan.levels.size() == records_.size();
    for (std::size_t i = 0; same_layers && i < records_.size(); ++i) {
      same_layers = state.plan.layers[i] == records_[i].spec.name;
    }
    if (!same_layers) throw StateError("[state] saved for a model with other layers");
    for (std::size_t i = 0; i < records_.size(); ++i) {
      check_layer(state.layers[i], records_[i]);
      const Level& level = state.plan.levels[i];
      if (resolve(level, records_[i].spec) != level) {
        throw StateError("[state] layer '" + records_[i].spec.name + "' cannot be sent as '" +
                         to_string(level) + "'");
      }
    }
  }

  AggregatorOptions options_;
  std::vector<LayerRecord> records_;
  Planning planning_;
  CountingCommunicator communicator_;
  Plan plan_;
  std::uint64_t step_ = 0;
  std::uint64_t bucket_ = 0;  // in this step, for messages
  bool overflowed_ = false;   // in this step so far
  Stats stats_;               // without the traffic since `counted_`
  Traffic counted_;
  std::exception_ptr failure_;
  mutable Lane lane_;  // last: its thread uses everything above and ends first
};

Aggregator::Aggregator(std::vector<LayerSpec> layers, AggregatorOptions options,
                       std::unique_ptr<Communicator> communicator)
    : impl_(
          std::make_unique<Impl>(std::move(layers), std::move(options), std::move(communicator))) {}

Aggregator::~Aggregator() = default;

void Aggregator::submit(Bucket bucket, std::function<void(std::exception_ptr)> done) {
  impl_->submit(std::move(bucket), std::move(done));
}

void Aggregator::exchange(Bucket bucket) {
  std::promise<void> promise;
  submit(std::move(bucket), [&promise](const std::exception_ptr& failure) {
    failure ? promise.set_exception(failure) : promise.set_value();
  });
  promise.get_future().get();
}

const std::vector<LayerSpec>& Aggregator::layers() const { return impl_->specs; }

Plan Aggregator::plan() const {
  return impl_->lane().call([this] { return impl_->plan(); });
}

Stats Aggregator::stats() const {
  return impl_->lane().call([this] { return impl_->stats(); });
}

AggregatorState Aggregator::state() const {
  return impl_->lane().call([this] { return impl_->state(); });
}

void Aggregator::load_state(AggregatorState state) {
  impl_->lane().call([this, &state] { impl_->load_state(std::move(state)); });
}

}  // namespace lgreco
