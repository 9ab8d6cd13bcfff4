// How fast levels are on this machine, for plans that minimise time.
#pragma once

#include <span>
#include <vector>

#include "lgreco/level.h"

namespace lgreco {

/// Seconds per element that one thread of this rank takes to encode a layer with error feedback,
/// add up its share of the others' and decode the averages, among `ranks` ranks; by level. Measured
/// on a sample matrix, the least of a few attempts, a few milliseconds a level; of low_rank only
/// the least and the largest rank, between which time is linear.
std::vector<double> seconds_per_element(std::span<const Level> levels, int ranks);

}  // namespace lgreco
