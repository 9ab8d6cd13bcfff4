// All-gathers in which a node sends each other node one message, whatever ranks it has.
#pragma once

#include <memory>
#include <vector>

#include "lgreco/communicator.h"

namespace lgreco {

/// A communicator over `inner` for small messages between ranks of several nodes; `nodes[r]` is
/// that of rank r, the same on every rank. An all-gather takes three steps: inside each node,
/// between the first ranks of the nodes, and from these to the others of their nodes. An all-to-all
/// goes straight.
std::unique_ptr<Communicator> gather_by_node(std::unique_ptr<Communicator> inner,
                                             std::vector<int> nodes);

}  // namespace lgreco
