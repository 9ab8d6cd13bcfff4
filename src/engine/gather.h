// What every rank has to say, on every rank: for what is exchanged once, before the first step or
// when a state is loaded.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "lgreco/communicator.h"

namespace lgreco {

/// Collective: the ranks' bytes, of which rank r has `sizes[r]`. Throws PeerError.
std::vector<std::vector<std::byte>> gather(std::span<const std::byte> own,
                                           const std::vector<std::size_t>& sizes,
                                           Communicator& communicator, Deadline deadline);

/// Collective: the ranks' texts, of any length up to 256 MiB. Throws PeerError, and ProtocolError
/// on a longer one.
std::vector<std::string> gather_texts(const std::string& own, Communicator& communicator,
                                      Deadline deadline);

}  // namespace lgreco
