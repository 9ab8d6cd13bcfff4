"""How long a training step takes: a model on plain numbers. Times in seconds, sizes in bytes.

    step = compute + codec + staging + exposed
    exposed = wire - overlap * min(early * wire, window)

* compute: a step without communication: forward, backward, optimizer, data.
* codec: encoding and decoding. All of it counts: encoders share the cores with the backward pass,
  and averages are decoded after the step's last collective.
* staging: with accelerators, summing inside the nodes and copying to the host and back. It counts
  in full, too, as the averages come at the step's end. On CPUs there is none.
* wire: what the collectives take on an idle network (`wire_seconds`).
* early: the share of the gradient in buckets that are ready before the last one. The last bucket is
  ready when the backward pass ends, so that nothing can hide its communication.
* window: from the moment the first bucket is ready to the moment the last one is: all the time that
  the early ones' communication has. With a single bucket, both are 0.
* overlap: the share of what could be hidden that is hidden, between 0 and 1. It is
  measured on plain DDP (`measured_overlap`) and taken to hold for every level and network. Where
  DDP's communication is too long to show it, all is taken to be hidden that can be.

Plain DDP is the case without codec. What is not in it: ranks that wait for a slower rank, other
traffic on the network, and that gradients which arrive late may cost accuracy.

`simulate` applies it to jobs that do not exist here: a `Workload` on a `Cluster`. What it adds is
how collectives grow with the ranks, and when buckets are ready, in place of measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lgreco import _core
from lgreco.errors import ConfigError

HALVES_OF_AN_ALL_REDUCE = 2
_COLLECTIVES_TO_COMMIT = 1
MESSAGE_BYTES = _core.GLOO_MESSAGE_BYTES + _core.FRAME_BYTES  # besides the payload
_CODED = {row["name"]: row["coded"] for row in _core.method_table()}
_FIRST_BUCKET_BYTES = 2**20  # DDP's default
_LEAST_THAT_SHOWS = 0.1  # of the wire; less drowns in the errors of measuring


def wire_seconds(
    payload_bytes: float, collectives: int, ranks: int, bandwidth: float, latency: float
) -> float:
    """See lgreco/network.h. Raises ConfigError on an impossible network."""
    return _core.wire_seconds(payload_bytes, collectives, ranks, bandwidth, latency)


def collectives_of_ddp(buckets: int) -> int:
    """In a step of plain DDP."""
    return HALVES_OF_AN_ALL_REDUCE * buckets


def collectives_of(level: str, buckets: int, ranks: int) -> int:
    """In a compressed step at one level."""
    in_bucket = _core.collectives_of_bucket(not _is_coded(level), ranks)
    return in_bucket * buckets + _COLLECTIVES_TO_COMMIT


def codec_seconds(level: str, encode: float, decode: float, ranks: int) -> float:
    """Of one rank in a step, given what encoding and decoding the whole gradient once takes.

    Low-rank factors are summed as they are; of coded levels see lgreco/network.h.
    """
    return _core.coding_seconds(encode, decode, ranks) if _is_coded(level) else encode + decode


def early_share(buckets: Sequence[float]) -> float:
    """Of the gradient, before the last bucket; `buckets` in the order in which they are ready."""
    return sum(buckets[:-1]) / sum(buckets)


def exposed_seconds(wire: float, *, early: float, window: float, overlap: float) -> float:
    """What of `wire` the step waits for."""
    return wire - overlap * min(early * wire, window)


def step_seconds(
    compute: float, codec: float, wire: float, *, early: float, window: float, overlap: float
) -> float:
    return compute + codec + exposed_seconds(wire, early=early, window=window, overlap=overlap)


def measured_overlap(exposed: float, wire: float, *, early: float, window: float) -> float:
    """The overlap with which `exposed_seconds` gives `exposed`, as far as any in 0..1 does.

    1 where so little of `wire` could be hidden that `exposed` cannot show whether it is.
    """
    could_hide = min(early * wire, window)
    if could_hide <= _LEAST_THAT_SHOWS * wire:
        return 1.0
    return min(1.0, max(0.0, (wire - exposed) / could_hide))


@dataclass(frozen=True)
class Node:
    """A machine with accelerators, each of which is a rank. Raises ConfigError as Cluster does.

    Attributes:
        gpus: that share the node's link to the other nodes.
        link: bytes per second that one sends to others of its node while it receives as many.
        copy: bytes per second from one to the host's memory, and at once from there.
    """

    gpus: int
    link: float
    copy: float

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ConfigError(f"[step_time] a node must have at least 1 GPU, not {self.gpus}")
        for speed in (self.link, self.copy):
            wire_seconds(0, 0, self.gpus, speed, 0)


@dataclass(frozen=True)
class Cluster:
    """Ranks and the network between them. Raises ConfigError when there can be no such one.

    Attributes:
        ranks: one per link, or, where there are nodes, as many per link as a node has GPUs.
        bandwidth: bytes per second that a link carries each way.
        latency: seconds of a small message between two ranks.
        node: what each node is like; None for ranks on CPUs, each with a link of its own.
    """

    ranks: int
    bandwidth: float
    latency: float
    node: Node | None = None

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ConfigError(f"[step_time] there must be at least 1 rank, not {self.ranks}")
        if self.ranks % self.ranks_of_link:
            raise ConfigError(
                f"[step_time] {self.ranks} ranks are no whole number of nodes with "
                f"{self.ranks_of_link} GPUs each"
            )
        wire_seconds(0, 0, self.ranks, self.bandwidth, self.latency)

    @property
    def ranks_of_link(self) -> int:
        return self.node.gpus if self.node else 1

    @property
    def links(self) -> int:
        return self.ranks // self.ranks_of_link


@dataclass(frozen=True)
class Workload:
    """A model's step without communication.

    Attributes:
        compute: seconds.
        buckets: bytes of each, in the order in which they are ready.
        layers: of the model.
        backward: share of compute that is the backward pass. Gradients are ready evenly over it.
        overlap: share of what could be hidden that is hidden.
    """

    compute: float
    buckets: Sequence[int]
    layers: int
    backward: float = 2 / 3
    overlap: float = 1.0

    def __post_init__(self) -> None:
        if not (self.compute >= 0 and math.isfinite(self.compute)):
            raise ConfigError("[step_time] compute must be finite and not negative, in seconds")
        for name in ("backward", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"[step_time] {name} must be between 0 and 1")

    @property
    def gradient_bytes(self) -> int:
        return sum(self.buckets)

    @property
    def early(self) -> float:
        return early_share(self.buckets)

    @property
    def window(self) -> float:
        first = self.buckets[0] / self.gradient_bytes
        return self.backward * self.compute * (1 - first) if len(self.buckets) > 1 else 0.0


@dataclass(frozen=True)
class SimulatedStep:
    """Computed, never measured; seconds, and bytes of one link."""

    payload_bytes: float
    sent_bytes: float
    codec_s: float
    staging_s: float
    wire_s: float
    exposed_s: float
    step_s: float


def simulate_ddp(
    workload: Workload, cluster: Cluster, *, payload_bytes: float | None = None, codec: float = 0.0
) -> SimulatedStep:
    """A step of plain DDP, or of a hook that hands it `payload_bytes` after `codec` seconds: a ring
    of all ranks, which enters and leaves each node once."""
    payload = workload.gradient_bytes if payload_bytes is None else payload_bytes
    sent = HALVES_OF_AN_ALL_REDUCE * (cluster.ranks - 1) / cluster.ranks * payload
    collectives = collectives_of_ddp(len(workload.buckets))
    return _simulated(
        workload,
        cluster,
        payload=payload,
        sent=sent if cluster.links > 1 else 0.0,
        sent_in_node=sent if cluster.node else 0.0,
        codec=codec,
        staging=0.0,
        latency=collectives * collective_latency(cluster.latency, cluster.ranks),
    )


def simulate(
    workload: Workload,
    cluster: Cluster,
    level: str,
    *,
    payload_bytes: float,
    encode: float,
    decode: float,
    node_first: bool = True,
) -> SimulatedStep:
    """A step with every layer at `level`, or dense where it does not suit. `encode`, `decode`:
    seconds for the whole gradient once. `node_first`: gradients are summed inside the nodes, and
    what each GPU owns of the sum is averaged over them; otherwise each rank averages all of it."""
    gpus = cluster.ranks_of_link
    owners = gpus if node_first and cluster.links > 1 else 1
    averaging = cluster.ranks // owners
    collectives = collectives_of(level, len(workload.buckets), averaging)
    in_bucket = (collectives - _COLLECTIVES_TO_COMMIT) // len(workload.buckets)
    # Ranks of other nodes that average with one, and what goes to each of them from this node.
    elsewhere = averaging - gpus // owners
    share = HALVES_OF_AN_ALL_REDUCE * payload_bytes / averaging + workload.layers * in_bucket
    messages = in_bucket * len(workload.buckets) * elsewhere
    messages += _COLLECTIVES_TO_COMMIT * (cluster.ranks - gpus)
    sent = gpus / owners * elsewhere * share + gpus * messages * MESSAGE_BYTES
    staging = 0.0
    if cluster.node:
        staging = 2 * workload.gradient_bytes / owners / cluster.node.copy
        staging += 2 * workload.gradient_bytes * (owners - 1) / owners / cluster.node.link
    return _simulated(
        workload,
        cluster,
        payload=payload_bytes,
        sent=sent,
        sent_in_node=(gpus // owners - 1) * share,
        codec=codec_seconds(level, encode, decode, averaging) / owners,
        staging=staging,
        latency=collectives * collective_latency(cluster.latency, averaging),
    )


def _simulated(
    workload: Workload,
    cluster: Cluster,
    *,
    payload: float,
    sent: float,
    sent_in_node: float,
    codec: float,
    staging: float,
    latency: float,
) -> SimulatedStep:
    """`sent`: bytes on each node's link, `sent_in_node`: by each rank to those of its node."""
    wire = sent / cluster.bandwidth
    if cluster.node:
        wire = max(wire, sent_in_node / cluster.node.link)
    wire += latency
    hiding = {"early": workload.early, "window": workload.window, "overlap": workload.overlap}
    return SimulatedStep(
        payload_bytes=payload,
        sent_bytes=sent,
        codec_s=codec,
        staging_s=staging,
        wire_s=wire,
        exposed_s=exposed_seconds(wire, **hiding),
        step_s=staging + step_seconds(workload.compute, codec, wire, **hiding),
    )


def collective_latency(message_latency: float, ranks: int) -> float:
    """Of a collective of hardly any bytes: as many messages one after another as a tree is deep."""
    return message_latency * math.ceil(math.log2(ranks)) if ranks > 1 else 0.0


def bucket_bytes(layer_bytes: Sequence[int], capacity: int) -> list[int]:
    """DDP's buckets of layers in the order of the model: filled from the last layer on until they
    hold `capacity` bytes, the first one until it holds 1 MiB."""
    if capacity < 1:
        raise ConfigError(f"[step_time] a bucket must hold at least 1 byte, not {capacity}")
    buckets: list[int] = []
    filling = 0
    for size in reversed(layer_bytes):
        filling += size
        if filling >= (capacity if buckets else min(capacity, _FIRST_BUCKET_BYTES)):
            buckets.append(filling)
            filling = 0
    return buckets + ([filling] if filling else [])


def _is_coded(level: str) -> bool:
    return _CODED[level.partition(":")[0]]
