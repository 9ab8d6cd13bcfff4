"""What `lgreco simulate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lgreco.cli import units
from lgreco.cli.output import print_json, print_table
from lgreco.known_models import KNOWN_MODELS
from lgreco.step_time import Cluster, SimulatedStep, Workload

PLAIN = "DDP fp32"  # every cluster has a step of it


@dataclass(frozen=True)
class Rates:
    """Bytes of fp32 gradient per second."""

    encode: float
    decode: float


Steps = Sequence[tuple[Cluster, str, SimulatedStep]]


def _plain(steps: Steps, cluster: Cluster) -> SimulatedStep:
    return next(step for where, name, step in steps if where == cluster and name == PLAIN)


def print_simulation_as_json(
    model: str, workload: Workload, rates: dict[str, Rates], steps: Steps
) -> None:
    print_json(
        {
            "computed": True,
            "model": model,
            "workload": {**asdict(workload), "gradient_bytes": workload.gradient_bytes},
            "rates": {level: asdict(rate) for level, rate in rates.items()},
            "steps": [
                {
                    **asdict(cluster),
                    "level": name,
                    **asdict(step),
                    "speedup": _plain(steps, cluster).step_s / step.step_s,
                }
                for cluster, name, step in steps
            ],
        }
    )


def print_simulation(
    model: str, elements: int, workload: Workload, rates: dict[str, Rates], steps: Steps
) -> None:
    batch = f" for {KNOWN_MODELS[model]().batch}" if model in KNOWN_MODELS else ""
    print(
        f"Computed, not measured. {model}: {elements:,} parameters in {workload.layers} layers and "
        f"{len(workload.buckets)} buckets;\na step computes "
        f"{units.show_seconds(workload.compute)}{batch}, and hides at most "
        f"{units.show_seconds(workload.overlap * workload.window)} of communication."
    )
    for bandwidth in dict.fromkeys(cluster.bandwidth for cluster, _, _ in steps):
        here = [entry for entry in steps if entry[0].bandwidth == bandwidth]
        clusters = list(dict.fromkeys(cluster for cluster, _, _ in here))
        rows = []
        for name in dict.fromkeys(name for _, name, _ in here):
            of_name = [step for _, label, step in here if label == name]
            cells = [
                f"{units.show_seconds(step.step_s)} x{_plain(here, where).step_s / step.step_s:.2f}"
                for where, step in zip(clusters, of_name, strict=True)
            ]
            payload = units.show_bytes(of_name[0].payload_bytes)
            rows.append([name, payload, units.show_seconds(of_name[0].codec_s), *cells])
        print_table(
            f"{units.show_bandwidth(bandwidth)} a rank, "
            f"{units.show_seconds(clusters[0].latency)} a message",
            ["level", "payload", "codec", *(f"{c.ranks:,} ranks" for c in clusters)],
            rows,
        )
    print(
        "step = compute + codec + what of the wire the backward pass does not hide; x: against "
        "DDP fp32.\nGB/s that levels encode and decode: "
        + ", ".join(
            f"{level} {rate.encode / 1e9:.2g} and {rate.decode / 1e9:.2g}"
            for level, rate in rates.items()
        )
    )
