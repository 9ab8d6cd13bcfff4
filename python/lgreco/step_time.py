"""How long a training step takes: a model on plain numbers. Times in seconds, sizes in bytes.

    step = compute + codec + exposed
    exposed = wire - overlap * min(early * wire, window)

* compute: a step without communication: forward, backward, optimizer, data.
* codec: encoding and decoding. All of it counts: encoders share the cores with the backward pass,
  and averages are decoded after the step's last collective.
* wire: what the collectives take on an idle network (`wire_seconds`).
* early: the share of the gradient in buckets that are ready before the last one. The last bucket is
  ready when the backward pass ends, so that nothing can hide its communication.
* window: from the moment the first bucket is ready to the moment the last one is: all the time that
  the early ones' communication has. With a single bucket, both are 0.
* overlap: the share of what could be hidden that is hidden, between 0 and 1. It is
  measured on plain DDP (`measured_overlap`) and taken to hold for every level and network.

Plain DDP is the case without codec. What is not in it: ranks that wait for a slower rank, other
traffic on the network, and that gradients which arrive late may cost accuracy.
"""

from __future__ import annotations

from lgreco import _core

HALVES_OF_AN_ALL_REDUCE = 2
_COLLECTIVES_OF_A_LOW_RANK_BUCKET = 4  # P and Q, each to its owners and back
_COLLECTIVES_TO_COMMIT = 1
_LINEAR = ("low_rank",)


def wire_seconds(
    payload_bytes: float, collectives: int, ranks: int, bandwidth: float, latency: float
) -> float:
    """See lgreco/network.h. Raises ConfigError on an impossible network."""
    return _core.wire_seconds(payload_bytes, collectives, ranks, bandwidth, latency)


def collectives_of_ddp(buckets: int) -> int:
    """In a step of plain DDP."""
    return HALVES_OF_AN_ALL_REDUCE * buckets


def collectives_of(level: str, buckets: int) -> int:
    """In a compressed step at one level."""
    in_bucket = _COLLECTIVES_OF_A_LOW_RANK_BUCKET if _is_linear(level) else HALVES_OF_AN_ALL_REDUCE
    return in_bucket * buckets + _COLLECTIVES_TO_COMMIT


def codec_seconds(level: str, encode: float, decode: float, ranks: int) -> float:
    """Of one rank in a step, given what encoding and decoding the whole gradient once takes.

    A rank encodes its gradient and the mean of the 1/ranks that it owns; it decodes the pieces that
    it owns, one of each rank, and all means. Low-rank factors are summed as they are.
    """
    if _is_linear(level):
        return encode + decode
    return encode * (1 + 1 / ranks) + 2 * decode


def exposed_seconds(wire: float, *, early: float, window: float, overlap: float) -> float:
    """What of `wire` the step waits for."""
    return wire - overlap * min(early * wire, window)


def step_seconds(
    compute: float, codec: float, wire: float, *, early: float, window: float, overlap: float
) -> float:
    return compute + codec + exposed_seconds(wire, early=early, window=window, overlap=overlap)


def measured_overlap(exposed: float, wire: float, *, early: float, window: float) -> float:
    """The overlap with which `exposed_seconds` gives `exposed`, as far as any in 0..1 does."""
    could_hide = min(early * wire, window)
    if could_hide <= 0:
        return 1.0
    return min(1.0, max(0.0, (wire - exposed) / could_hide))


def _is_linear(level: str) -> bool:
    return level.partition(":")[0] in _LINEAR
