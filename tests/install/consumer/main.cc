// Averages one layer on two ranks that are threads, with nothing but the installed library.

#include <cstdio>
#include <thread>
#include <vector>

#include "lgreco/aggregator.h"

int main() {
  auto communicators = lgreco::thread_communicators(2);
  std::vector<std::vector<float>> gradients = {std::vector<float>(4096, 1.0f),
                                               std::vector<float>(4096, 3.0f)};
  std::vector<std::thread> ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      std::vector<std::unique_ptr<lgreco::Communicator>> lanes;
      lanes.push_back(std::move(communicators[rank]));
      lgreco::Aggregator aggregator({{.name = "layer", .shape = {64, 64}}},
                                    {.method = lgreco::parse_level("cast:bf16")}, std::move(lanes));
      aggregator.exchange({.gradients = {{.layer = 0, .data = gradients[rank].data()}}});
    });
  }
  for (std::thread& rank : ranks) rank.join();
  std::printf("average: %g\n", static_cast<double>(gradients[0][0]));
  return gradients[0] == gradients[1] && gradients[0][0] == 2.0f ? 0 : 1;
}
