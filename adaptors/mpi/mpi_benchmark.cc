// One averaged tensor: every method against MPI_Allreduce in fp32.
//
//   mpiexec -n 4 mpi_benchmark SIDE REPEATS ROUNDS LEVEL...
//
// A matrix of SIDE x SIDE normal numbers is averaged by an Aggregator of each level, and by
// MPI_Allreduce. All alternate, ROUNDS times, in the same processes; a measurement is the mean of
// REPEATS. Rank 0 prints a line of JSON for each: seconds of every round, and bytes it sent in one.

#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lgreco/aggregator.h"
#include "lgreco/mpi_communicator.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

struct Contender {
  std::string name;
  std::function<void(float*)> average;
  std::unique_ptr<Aggregator> aggregator = nullptr;
  std::uint64_t sent_before = 0;
  std::vector<double> seconds = {};
};

class Contest {
 public:
  Contest(std::size_t side, int repeats, const std::vector<std::string>& levels)
      : repeats_(repeats), source_(side * side), tensor_(side * side) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::mt19937 generator(static_cast<unsigned>(rank));
    std::normal_distribution<float> normal;
    for (float& value : source_) value = normal(generator);
    contenders_.push_back({"all-reduce fp32", [this](float* data) { all_reduce(data); }});
    for (const std::string& level : levels) add(level, static_cast<std::int64_t>(side));
  }

  void run(int rounds) {
    for (Contender& contender : contenders_) {
      seconds_of(contender);
      if (contender.aggregator) contender.sent_before = contender.aggregator->stats().bytes_sent;
    }
    for (int round = 0; round < rounds; ++round) {
      for (Contender& contender : contenders_) contender.seconds.push_back(seconds_of(contender));
    }
  }

  void print() const {
    for (const Contender& contender : contenders_) {
      std::printf("{\"method\": \"%s\", \"seconds\": [", contender.name.c_str());
      const char* separator = "";
      for (double seconds : contender.seconds) {
        std::printf("%s%.9f", separator, seconds);
        separator = ", ";
      }
      std::printf("], \"sent_bytes\": %s}\n", sent_bytes(contender).c_str());
    }
  }

 private:
  void add(const std::string& level, std::int64_t side) {
    auto aggregator = std::make_unique<Aggregator>(
        std::vector<LayerSpec>{{.name = "tensor", .shape = {side, side}}},
        AggregatorOptions{.method = parse_level(level)}, mpi_lanes(MPI_COMM_WORLD));
    auto average = [to = aggregator.get()](float* data) {
      to->exchange({.gradients = {{.layer = 0, .data = data}}});
    };
    contenders_.push_back({level, average, std::move(aggregator)});
  }

  void all_reduce(float* data) const {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Allreduce(MPI_IN_PLACE, data, static_cast<int>(tensor_.size()), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
    const float share = 1.0f / static_cast<float>(ranks);
    std::for_each_n(data, tensor_.size(), [share](float& value) { value *= share; });
  }

  double seconds_of(const Contender& contender) {
    double total = 0;
    for (int repeat = 0; repeat < repeats_; ++repeat) {
      tensor_ = source_;
      MPI_Barrier(MPI_COMM_WORLD);
      const double begin = MPI_Wtime();
      contender.average(tensor_.data());
      total += MPI_Wtime() - begin;
    }
    return total / repeats_;
  }

  std::string sent_bytes(const Contender& contender) const {
    if (!contender.aggregator) return "null";
    const std::uint64_t sent = contender.aggregator->stats().bytes_sent - contender.sent_before;
    const auto steps = static_cast<double>(contender.seconds.size()) * repeats_;
    return std::to_string(static_cast<double>(sent) / steps);
  }

  int repeats_;
  std::vector<float> source_;
  std::vector<float> tensor_;
  std::vector<Contender> contenders_;
};

}  // namespace
}  // namespace lgreco

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  try {
    if (argc < 4) throw lgreco::ConfigError("[mpi_benchmark] SIDE REPEATS ROUNDS LEVEL...");
    lgreco::Contest contest(std::strtoul(argv[1], nullptr, 10), std::atoi(argv[2]),
                            {argv + 4, argv + argc});
    contest.run(std::atoi(argv[3]));
    if (rank == 0) contest.print();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
}
