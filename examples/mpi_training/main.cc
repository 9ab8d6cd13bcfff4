// Data-parallel training with compressed gradients: over MPI, or with ranks as threads.
//
//   mpiexec -n 4 mpi_training [--method low_rank:2:min_ratio=1] [--steps 300] [--report 50] [--seed
//   1] mpi_training --threads 4 [the same]
//
// Both print the same lines: all ranks hold the same bits after every step, whatever carries them.

#define XXH_INLINE_ALL
#include <mpi.h>
#include <xxhash.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "lgreco/aggregator.h"
#include "lgreco/mpi_communicator.h"
#include "lgreco/status.h"
#include "perceptron.h"

namespace {

using Lanes = std::vector<std::unique_ptr<lgreco::Communicator>>;

struct Options {
  std::string method = "low_rank:2:min_ratio=1";
  std::uint64_t steps = 300;
  std::uint64_t report = 50;
  std::uint64_t seed = 1;
  int threads = 0;  // 0: MPI processes
};

constexpr std::size_t kShard = 2000;
constexpr std::size_t kBatch = 32;
constexpr std::size_t kTest = 2000;
constexpr std::uint64_t kTestShard = 1'000'000;

/// Momentum smooths what compression leaves out of single steps.
class Optimizer {
 public:
  void step(Tensors& parameters, Tensors& gradient) {
    for (std::size_t layer = 0; layer < gradient.all().size(); ++layer) {
      std::vector<float>& p = *parameters.all()[layer];
      std::vector<float>& v = *velocity_.all()[layer];
      const std::vector<float>& g = *gradient.all()[layer];
      for (std::size_t i = 0; i < p.size(); ++i) {
        v[i] = 0.9f * v[i] + g[i];
        p[i] -= 0.01f * v[i];
      }
    }
  }

 private:
  Tensors velocity_;
};

std::uint64_t hash(Tensors parameters) {
  std::uint64_t hash = 0;
  for (const std::vector<float>* tensor : parameters.all()) {
    hash = XXH3_64bits_withSeed(tensor->data(), tensor->size() * sizeof(float), hash);
  }
  return hash;
}

/// Everything a rank does. What the lanes run over makes no difference.
void train(Lanes lanes, const Options& options) {
  const int rank = lanes.front()->rank();
  const Task task(options.seed);
  const Samples shard = task.samples(static_cast<std::uint64_t>(rank), kShard);
  Tensors parameters = initial_parameters(options.seed);
  Tensors gradient;
  Optimizer optimizer;

  // What `parameter` shows is compared between the ranks now and then.
  const auto parameter = [&](std::size_t layer) {
    return std::as_bytes(std::span<const float>(*parameters.all()[layer]));
  };
  lgreco::Aggregator aggregator({{.name = "hidden.weight", .shape = {kHidden, kInputs}},
                                 {.name = "hidden.bias", .shape = {kHidden}},
                                 {.name = "class.weight", .shape = {kClasses, kHidden}},
                                 {.name = "class.bias", .shape = {kClasses}}},
                                {.method = lgreco::parse_level(options.method),
                                 .seed = options.seed,
                                 .parameter = parameter,
                                 .timeout = std::chrono::seconds(30)},
                                std::move(lanes));
  lgreco::Bucket bucket;
  for (std::size_t layer = 0; layer < gradient.all().size(); ++layer) {
    bucket.gradients.push_back({.layer = layer});
  }
  for (std::uint64_t step = 0; step < options.steps; ++step) {
    const float loss = loss_and_gradient(parameters, shard, step * kBatch, kBatch, gradient);
    for (lgreco::Gradient& g : bucket.gradients) g.data = gradient.all()[g.layer]->data();
    aggregator.exchange(bucket);
    optimizer.step(parameters, gradient);
    if (rank == 0 && step % options.report == 0) {
      std::printf("step %5llu  loss %.6f\n", static_cast<unsigned long long>(step), loss);
    }
  }

  const lgreco::Stats stats = aggregator.stats();
  std::printf("rank %d  parameters %016llx  accuracy %.4f  bytes sent %llu of %llu\n", rank,
              static_cast<unsigned long long>(hash(parameters)),
              accuracy(parameters, task.samples(kTestShard, kTest)),
              static_cast<unsigned long long>(stats.bytes_sent),
              static_cast<unsigned long long>(stats.dense_bytes));
}

[[noreturn]] void usage(const std::string& problem) {
  throw lgreco::ConfigError("[mpi_training] " + problem +
                            "; possible: --method LEVEL, --steps N, --report N, --seed N, "
                            "--threads N");
}

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const std::string& name = arguments[i];
    if (i + 1 == arguments.size()) usage(name + " needs a value");
    const std::string& value = arguments[i + 1];
    if (name == "--method") {
      options.method = value;
      continue;
    }
    const long number = std::strtol(value.c_str(), nullptr, 10);
    if (number < 1) usage(name + " must be a positive number, not " + value);
    if (name == "--steps") {
      options.steps = static_cast<std::uint64_t>(number);
    } else if (name == "--report") {
      options.report = static_cast<std::uint64_t>(number);
    } else if (name == "--seed") {
      options.seed = static_cast<std::uint64_t>(number);
    } else if (name == "--threads") {
      options.threads = static_cast<int>(number);
    } else {
      usage("unknown option " + name);
    }
  }
  return options;
}

/// Ends the process on failure: the other ranks cannot go on either.
void train_or_exit(Lanes lanes, const Options& options) {
  try {
    train(std::move(lanes), options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(1);  // mpiexec ends the others
  }
}

void train_on_threads(const Options& options) {
  Lanes lane_a = lgreco::thread_communicators(options.threads);
  Lanes lane_b = lgreco::thread_communicators(options.threads);
  std::vector<std::thread> ranks;
  for (std::size_t rank = 0; rank < lane_a.size(); ++rank) {
    Lanes lanes;
    lanes.push_back(std::move(lane_a[rank]));
    lanes.push_back(std::move(lane_b[rank]));
    ranks.emplace_back(train_or_exit, std::move(lanes), options);
  }
  for (std::thread& rank : ranks) rank.join();
}

void train_on_mpi(const Options& options, int* argc, char*** argv) {
  int provided = 0;
  MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided);
  train_or_exit(lgreco::mpi_lanes(MPI_COMM_WORLD), options);
  MPI_Finalize();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse({argv + 1, argv + argc});
    if (options.threads > 0) {
      train_on_threads(options);
    } else {
      train_on_mpi(options, &argc, &argv);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
