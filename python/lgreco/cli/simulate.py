"""`lgreco simulate`: computed step times of jobs that do not exist here."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer

from lgreco import _core, step_time
from lgreco.advise.levels import DEFAULT_LEVELS, time_levels
from lgreco.cli import units
from lgreco.cli.layers import Shapes, load_shapes
from lgreco.cli.output import AsJson, print_json
from lgreco.cli.simulation_view import PLAIN, Rates, as_dict, print_simulation
from lgreco.errors import ConfigError
from lgreco.known_models import KNOWN_MODELS
from lgreco.methods import method as parse_method
from lgreco.step_time import Cluster, Node, SimulatedStep, Workload

HALF = "DDP fp16 hook"
FLAT = ", flat"  # node=None
_CAST = "cast:fp16"
_SAMPLE = (1024, 1024)
_ATTEMPTS = 5


def simulate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"{', '.join(KNOWN_MODELS)}, JSON {{name: shape}}, a checkpoint, or "
            "module:factory.",
        ),
    ],
    ranks: Annotated[
        list[int] | None, typer.Option(help="Repeatable. Default: 8, 64, 256, 1024.")
    ] = None,
    bandwidth: Annotated[
        list[str] | None,
        typer.Option(help="Of a link, 1Gbit or 125MB; repeatable. Default: 10Gbit."),
    ] = None,
    latency: Annotated[str, typer.Option(help="Of a small message between two ranks.")] = "50us",
    gpus_per_node: Annotated[
        int | None,
        typer.Option(help="That share a node's link. Default: ranks on CPUs, each with its own."),
    ] = None,
    link_in_node: Annotated[
        str, typer.Option(help="Between the GPUs of a node; of PCIe alone some 15GB.")
    ] = "250GB",
    copy: Annotated[str, typer.Option(help="Of a GPU, to the host and back.")] = "25GB",
    level: Annotated[
        list[str] | None, typer.Option(help="Repeatable. Default: one of each method.")
    ] = None,
    compute: Annotated[
        str | None,
        typer.Option(help="Of a step without communication, 200ms; for a known model optional."),
    ] = None,
    tflops: Annotated[
        float, typer.Option(help="Sustained, to get a known model's compute from.")
    ] = 50.0,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEVEL=RATE",
            help="At which a level encodes, and decodes, fp32 gradients: quantize:4=2GB; "
            "repeatable. Default: measured here.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(help="That share encoding and decoding; rates are of one.")
    ] = 1,
    bucket_mb: Annotated[int, typer.Option(help="DDP's bucket_cap_mb.")] = 25,
    backward: Annotated[float, typer.Option(help="Share of compute.")] = 2 / 3,
    overlap: Annotated[
        float, typer.Option(help="Share of the communication that could be hidden that is.")
    ] = 1.0,
    json: AsJson = False,
) -> None:
    """Step times by a model on paper, for more ranks than there are here. Nothing is measured but
    how fast levels encode and decode."""
    if threads < 1:
        raise ConfigError(f"[cli] --threads must be at least 1, not {threads}")
    shapes, compute_s = _model(model, compute, tflops)
    workload = Workload(
        compute=compute_s,
        buckets=step_time.bucket_bytes(
            [4 * math.prod(shape) for shape in shapes.values()], bucket_mb * 2**20
        ),
        layers=len(shapes),
        backward=backward,
        overlap=overlap,
    )
    node = (
        None
        if gpus_per_node is None
        else Node(gpus_per_node, units.bandwidth(link_in_node), units.bandwidth(copy))
    )
    clusters = [
        Cluster(count, units.bandwidth(text), units.seconds(latency), node)
        for text in dict.fromkeys(bandwidth or ["10Gbit"])
        for count in dict.fromkeys(ranks or [8, 64, 256, 1024])
    ]
    levels = [str(parse_method(spelling)) for spelling in level or DEFAULT_LEVELS]
    parts = {name: _parts(shapes, name) for name in (*levels, _CAST)}
    needed = sorted({part for counts in parts.values() for part in counts})
    rates = _rates(needed, rate or [], threads)
    steps = [
        (cluster, name, step)
        for cluster in clusters
        for name, step in _steps(shapes, workload, cluster, levels, parts, rates).items()
    ]
    simulation = as_dict(model, workload, rates, steps)
    if json:
        print_json(simulation)
    else:
        print_simulation(workload, simulation)


def _model(source: str, compute: str | None, tflops: float) -> tuple[Shapes, float]:
    known = KNOWN_MODELS[source]() if source in KNOWN_MODELS else None
    shapes = known.shapes if known else load_shapes(source)
    if not any(math.prod(shape) for shape in shapes.values()):
        raise ConfigError(f"[cli] {source} has no elements")
    if compute is not None:
        return shapes, units.seconds(compute)
    if known is None:
        raise ConfigError(f"[cli] {source}: give --compute, the time of a step on one rank")
    if not (tflops > 0 and math.isfinite(tflops)):
        raise ConfigError(f"[cli] --tflops must be positive and finite, not {tflops}")
    return shapes, known.flops / (1e12 * tflops)


def _parts(shapes: Shapes, level: str) -> Counter[str]:
    """Elements by the level that their layers really get."""
    counts: Counter[str] = Counter()
    for shape in shapes.values():
        counts[_core.resolve(level, shape)] += math.prod(shape)
    return counts


def _rates(levels: Sequence[str], given: Sequence[str], threads: int) -> dict[str, Rates]:
    rates = dict(_given_rate(text) for text in given)
    sample = np.random.default_rng(0).standard_normal(_SAMPLE, dtype=np.float32)
    for level in levels:
        if level not in rates:
            timings = [time_levels({"sample": sample}, [level])[0] for _ in range(_ATTEMPTS)]
            rates[level] = Rates(
                sample.nbytes / min(timing.encode_s for timing in timings),
                sample.nbytes / min(timing.decode_s for timing in timings),
            )
    return {level: Rates(r.encode * threads, r.decode * threads) for level, r in rates.items()}


def _given_rate(text: str) -> tuple[str, Rates]:
    spelling, equals, value = text.rpartition("=")
    if not equals:
        raise ConfigError(f"[cli] {text!r} is no rate; write quantize:4=2GB")
    rate = units.bandwidth(value)
    return str(parse_method(spelling)), Rates(rate, rate)


def _steps(
    shapes: Shapes,
    workload: Workload,
    cluster: Cluster,
    levels: Sequence[str],
    parts: dict[str, Counter[str]],
    rates: dict[str, Rates],
) -> dict[str, SimulatedStep]:
    steps = {
        PLAIN: step_time.simulate_ddp(workload, cluster),
        HALF: step_time.simulate_ddp(
            workload,
            cluster,
            payload_bytes=workload.gradient_bytes / 2,
            codec=0.0 if cluster.node else sum(_codec(parts[_CAST], rates)),  # a GPU casts at once
        ),
    }
    for level in levels:
        encode, decode = _codec(parts[level], rates)
        payload = sum(
            _core.payload_bytes(_core.resolve(level, shape), shape) for shape in shapes.values()
        )
        step = functools.partial(
            step_time.simulate,
            workload,
            cluster,
            level,
            payload_bytes=payload,
            encode=encode,
            decode=decode,
        )
        steps[level] = step()
        if cluster.ranks_of_link > 1:
            steps[level + FLAT] = step(node_first=False)
    return steps


def _codec(parts: Counter[str], rates: dict[str, Rates]) -> tuple[float, float]:
    """Seconds to encode and to decode the whole gradient once."""
    return (
        sum(4 * count / rates[level].encode for level, count in parts.items()),
        sum(4 * count / rates[level].decode for level, count in parts.items()),
    )
