// What the time of an exchange depends on: the network, and how often a rank encodes and decodes.
#pragma once

#include <cstddef>

namespace lgreco {

struct Network {
  /// Bytes per second that one rank can send while it receives as many.
  double bandwidth = 0;
  /// Seconds that a collective of hardly any bytes takes.
  double latency = 0;

  bool operator==(const Network&) const = default;
};

/// Throws ConfigError unless bandwidth is positive and latency is not negative, both finite.
void check(const Network& network);

/// Of a bucket: of one with layers of two rounds, such as low rank's, or of coded layers alone. See
/// lgreco/algorithm.h.
int collectives_of_bucket(bool has_two_rounds, int ranks);

/// Bytes that Gloo over TCP sends besides each message: data and its announcement, each
/// acknowledged, make four packets.
inline constexpr std::size_t kGlooMessageBytes = 340;

/// Seconds on the wire for `payload_bytes` that each of `ranks` has averaged with the others, of
/// which it sends 2 (ranks - 1) / ranks, in `collectives` collectives. Nothing for a single rank.
double wire_seconds(double payload_bytes, int collectives, int ranks, const Network& network);

/// Seconds that a rank codes for, to average a coded layer over `ranks` ranks; `encode` and
/// `decode`: for the whole layer once. Sharded, it encodes the pieces that others own and the mean
/// of its own, and decodes the others' pieces of its own and all means; gathered, it encodes all
/// of its own and decodes everybody's.
double coding_seconds(double encode, double decode, int ranks);

}  // namespace lgreco
