"""What `lgreco simulate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lgreco.cli import units
from lgreco.cli.output import print_table, show
from lgreco.known_models import KNOWN_MODELS
from lgreco.step_time import Cluster, SimulatedStep, Workload

PLAIN = "DDP fp32"  # every cluster has a step of it


@dataclass(frozen=True)
class Rates:
    """Bytes of fp32 gradient per second."""

    encode: float
    decode: float


Json = dict[str, Any]
Steps = Sequence[tuple[Cluster, str, SimulatedStep]]


def as_dict(model: str, workload: Workload, rates: dict[str, Rates], steps: Steps) -> Json:
    """As JSON holds it."""
    plain = {cluster: step.step_s for cluster, name, step in steps if name == PLAIN}
    return {
        "computed": True,
        "model": model,
        "workload": {**asdict(workload), "gradient_bytes": workload.gradient_bytes},
        "rates": {level: asdict(rate) for level, rate in rates.items()},
        "steps": [
            {
                **asdict(cluster),
                "level": name,
                **asdict(step),
                "speedup": plain[cluster] / step.step_s,
            }
            for cluster, name, step in steps
        ],
    }


def table(steps: Sequence[Json]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: a level each; `steps` at one bandwidth."""
    rows = []
    for level in dict.fromkeys(step["level"] for step in steps):
        of_level = [step for step in steps if step["level"] == level]
        payload = units.show_bytes(of_level[0]["payload_bytes"])
        parts = [units.show_seconds(of_level[0][part]) for part in _parts(steps)]
        cells = [f"{units.show_seconds(s['step_s'])} x{s['speedup']:.2f}" for s in of_level]
        rows.append([level, payload, *parts, *cells])
    names = [part.removesuffix("_s") for part in _parts(steps)]
    ranks = dict.fromkeys(step["ranks"] for step in steps)
    return ["level", "payload", *names, *(f"{count:,} ranks" for count in ranks)], rows


def _parts(steps: Sequence[Json]) -> list[str]:
    return ["codec_s", "staging_s"] if steps[0].get("node") else ["codec_s"]


def print_simulation(workload: Workload, simulation: Json) -> None:
    model = simulation["model"]
    batch = f" for {KNOWN_MODELS[model]().batch}" if model in KNOWN_MODELS else ""
    show(
        f"Computed, not measured. {model}: {workload.gradient_bytes // 4:,} parameters in "
        f"{workload.layers} layers and {len(workload.buckets)} buckets;\na step computes "
        f"{units.show_seconds(workload.compute)}{batch}, and hides at most "
        f"{units.show_seconds(workload.overlap * workload.window)} of communication."
    )
    steps = simulation["steps"]
    for bandwidth in dict.fromkeys(step["bandwidth"] for step in steps):
        here = [step for step in steps if step["bandwidth"] == bandwidth]
        node = here[0]["node"]
        title = (
            f"{units.show_bandwidth(bandwidth)} a {'node' if node else 'rank'}, "
            f"{units.show_seconds(here[0]['latency'])} a message"
        )
        if node:
            title += f", {node['gpus']} GPUs a node"
        print_table(title, *table(here))
    show(
        "step = compute + codec + "
        + ("staging (sums in nodes, copies to the host) + " if steps[0]["node"] else "")
        + "what of the wire the backward pass does not hide; x: against DDP fp32.\n"
        "GB/s that levels encode and decode: "
        + ", ".join(
            f"{level} {rate['encode'] / 1e9:.2g} and {rate['decode'] / 1e9:.2g}"
            for level, rate in simulation["rates"].items()
        )
    )
