#include "lgreco/gather_by_node.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "lgreco/status.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

/// What rank `rank` gives: as many bytes as its number says, none of rank 0.
std::vector<std::byte> given_by(int rank) {
  return std::vector<std::byte>(static_cast<std::size_t>(rank), static_cast<std::byte>(7 + rank));
}

std::vector<std::vector<std::byte>> gather(Communicator& communicator) {
  std::vector<std::vector<std::byte>> all;
  std::vector<std::span<std::byte>> receive;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    all.emplace_back(static_cast<std::size_t>(rank));
  }
  for (auto& one : all) receive.emplace_back(one);
  communicator.all_gather(given_by(communicator.rank()), receive, soon());
  return all;
}

TEST(GatherByNode, EverybodyGetsEverythingInOneMessageBetweenNodes) {
  const std::vector<std::vector<int>> all_nodes = {
      {0, 0, 1, 1}, {0, 1, 0, 1}, {0, 0, 0, 0, 1, 1, 1, 1}, {0, 1, 2, 2, 1, 0}, {0, 1, 2}, {0, 0}};
  for (const std::vector<int>& nodes : all_nodes) {
    const int size = static_cast<int>(nodes.size());
    run_ranks(size, [&](std::unique_ptr<Communicator> inner) {
      const int rank = inner->rank();
      const auto communicator = gather_by_node(std::move(inner), nodes);
      for (int repetition = 0; repetition < 3; ++repetition) {
        const auto all = gather(*communicator);
        for (int other = 0; other < size; ++other) {
          EXPECT_EQ(all[static_cast<std::size_t>(other)], given_by(other)) << "on rank " << rank;
        }
      }
    });
  }
}

TEST(GatherByNode, ALostPeerIsAnErrorOnAll) {
  const std::vector<int> nodes = {0, 0, 1, 1};
  run_ranks(4, [&](std::unique_ptr<Communicator> inner) {
    const int rank = inner->rank();
    auto communicator = gather_by_node(std::move(inner), nodes);
    gather(*communicator);
    if (rank == 3) return;
    EXPECT_THROW(gather(*communicator), PeerError);
  });
}

}  // namespace
}  // namespace lgreco
