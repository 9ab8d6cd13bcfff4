// Measures the network between the ranks.
#pragma once

#include "lgreco/communicator.h"
#include "lgreco/network.h"

namespace lgreco {

/// Collective: the median latency of small collectives and the bandwidth of large ones, of the rank
/// where they are worst; the same numbers on every rank. Takes a tenth of a second, or a few
/// collectives where they are slower. Throws PeerError.
Network probe_network(Communicator& communicator, Deadline deadline);

/// Collective: the worst of what the ranks have found. Throws PeerError.
Network worst_of(const Network& network, Communicator& communicator, Deadline deadline);

}  // namespace lgreco
