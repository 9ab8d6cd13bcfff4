#include "lgreco/network.h"

#include <cmath>

#include "lgreco/algorithm.h"
#include "lgreco/status.h"

namespace lgreco {

void check(const Network& network) {
  if (!(network.bandwidth > 0) || !std::isfinite(network.bandwidth)) {
    throw ConfigError("[network] bandwidth must be positive and finite, in bytes per second");
  }
  if (!(network.latency >= 0) || !std::isfinite(network.latency)) {
    throw ConfigError("[network] latency must be finite and not negative, in seconds");
  }
}

int collectives_of_bucket(bool has_two_rounds, int ranks) {
  const int a_round = algorithm_for(ranks) == Algorithm::gathered ? 1 : 2;
  return has_two_rounds ? 2 * a_round : a_round;
}

double wire_seconds(double payload_bytes, int collectives, int ranks, const Network& network) {
  if (ranks < 2) return 0;
  const double sent = 2.0 * (ranks - 1) / ranks * payload_bytes;
  return collectives * network.latency + sent / network.bandwidth;
}

double coding_seconds(double encode, double decode, int ranks) {
  const bool gathered = algorithm_for(ranks) == Algorithm::gathered;
  return encode + decode * (gathered ? ranks : 2 - 1.0 / ranks);
}

}  // namespace lgreco
