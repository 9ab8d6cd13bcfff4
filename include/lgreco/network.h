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

/// Collectives of a bucket whose layers are all coded: to the owners of its pieces, and back.
inline constexpr int kCodedCollectives = 2;
/// Of one with a low-rank layer: P and Q, each to its owners and back.
inline constexpr int kLinearCollectives = 4;

/// Bytes that Gloo over TCP sends besides each message: data and its announcement, each
/// acknowledged, make four packets.
inline constexpr std::size_t kGlooMessageBytes = 340;

/// Seconds on the wire for `payload_bytes` that each of `ranks` has averaged with the others: two
/// halves of a scatter-reduce-all-gather, which send 2 (ranks - 1) / ranks of the payload, in
/// `collectives` collectives. Nothing for a single rank.
double wire_seconds(double payload_bytes, int collectives, int ranks, const Network& network);

/// Seconds that a rank codes for, to average a coded layer over `ranks` ranks; `encode` and
/// `decode`: for the whole layer once. It encodes the pieces that others own and the mean of its
/// own; it decodes the others' pieces of its own, and all means.
double coding_seconds(double encode, double decode, int ranks);

}  // namespace lgreco
