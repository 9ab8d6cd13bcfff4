#include "src/engine/network_probe.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace lgreco {
namespace {

constexpr int kRepetitions = 9;
constexpr std::size_t kFirstBytes = std::size_t{1} << 16;
constexpr std::size_t kMostBytes = std::size_t{1} << 26;
// Long enough that latency hardly counts.
constexpr double kLongEnough = 0.02;

using Bytes = std::vector<std::byte>;

std::vector<std::span<std::byte>> cut(Bytes& buffer, std::size_t pieces, std::size_t each) {
  std::vector<std::span<std::byte>> slots;
  for (std::size_t i = 0; i < pieces; ++i) {
    slots.push_back(std::span(buffer).subspan(i * each, each));
  }
  return slots;
}

/// Seconds until this rank has every rank's `each` bytes.
double seconds_to_gather(std::size_t each, Communicator& communicator, Deadline deadline) {
  const auto ranks = static_cast<std::size_t>(communicator.size());
  const Bytes own(each);
  Bytes all(each * ranks);
  const auto slots = cut(all, ranks, each);
  const auto begin = Clock::now();
  communicator.all_gather(own, slots, deadline);
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double largest_over_ranks(double value, Communicator& communicator, Deadline deadline) {
  const auto ranks = static_cast<std::size_t>(communicator.size());
  std::vector<double> all(ranks);
  std::vector<std::span<std::byte>> slots;
  slots.reserve(ranks);
  for (double& slot : all) slots.push_back(std::as_writable_bytes(std::span(&slot, 1)));
  communicator.all_gather(std::as_bytes(std::span(&value, 1)), slots, deadline);
  return *std::max_element(all.begin(), all.end());
}

double median_seconds(std::size_t each, Communicator& communicator, Deadline deadline) {
  std::array<double, kRepetitions> seconds;
  for (double& one : seconds) one = seconds_to_gather(each, communicator, deadline);
  std::nth_element(seconds.begin(), seconds.begin() + kRepetitions / 2, seconds.end());
  return largest_over_ranks(seconds[kRepetitions / 2], communicator, deadline);
}

}  // namespace

Network probe_network(Communicator& communicator, Deadline deadline) {
  Network network;
  network.latency = median_seconds(1, communicator, deadline);
  const double peers = std::max(1, communicator.size() - 1);
  for (std::size_t each = kFirstBytes;; each *= 4) {
    const double seconds =
        largest_over_ranks(seconds_to_gather(each, communicator, deadline), communicator, deadline);
    // A gather sends this rank's bytes to each peer.
    network.bandwidth = peers * static_cast<double>(each) / std::max(seconds, 1e-9);
    if (seconds - network.latency > kLongEnough || each >= kMostBytes) break;
  }
  return network;
}

Network worst_of(const Network& network, Communicator& communicator, Deadline deadline) {
  Network worst = network;
  worst.latency = largest_over_ranks(network.latency, communicator, deadline);
  worst.bandwidth = -largest_over_ranks(-network.bandwidth, communicator, deadline);
  return worst;
}

}  // namespace lgreco
