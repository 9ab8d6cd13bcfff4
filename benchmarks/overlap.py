"""One lane against two: the time of a step on a slow link, in one run.

python -m benchmarks.overlap          (make bench-overlap; needs root for two joined namespaces)

Two ranks, one at each end of the link, train ResNet-18 of half the usual width in small buckets.
Blocks of steps with one and with two lanes alternate, so that whatever else the machine does meets
both. --trace FOLDER writes a step of rank 0 for chrome://tracing.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import torch.distributed as dist
import typer

from benchmarks.ranks import results_in, run_as_rank
from benchmarks.report import Grid, publish
from benchmarks.training import Trainer, image_trainer
from experiments.models.resnet import ResNet18
from tools.namespaces import linked_namespaces, require_namespaces, run_on_link

METHODS = ["quantize:4", "low_rank:4"]
MEGABITS = (100, 1000)
IMAGE = (1, 28, 28)
WIDTH = 32
BUCKET_MB = 1
BATCH = 8
WARM_UP_STEPS = 3  # connections are opened, DDP regroups its buckets


@dataclass
class Comparison:
    """Seconds a step, of each block."""

    megabits: int
    method: str
    one_lane: list[float]
    two_lanes: list[float]

    @property
    def ratios(self) -> list[float]:
        """Two lanes over one, of the blocks."""
        return [two / one for two, one in zip(self.two_lanes, self.one_lane, strict=True)]


def compare(megabits: int, method: str, blocks: int, steps: int, trace: str) -> Comparison:
    """Collective. `trace`: folder, or empty."""
    trainers = {}
    for lanes in (1, 2):
        torch.manual_seed(0)
        model = ResNet18(classes=10, in_channels=IMAGE[0], width=WIDTH)
        trainers[lanes] = image_trainer(
            model, IMAGE, method, bucket_mb=BUCKET_MB, batch=BATCH, lanes=lanes
        )
        trainers[lanes].seconds(WARM_UP_STEPS)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for block in range(blocks):
        for lanes in (1, 2) if block % 2 == 0 else (2, 1):
            seconds[lanes].append(trainers[lanes].seconds(steps))
    if trace:
        write_traces(trainers, Path(trace), f"{megabits}-{method.replace(':', '-')}")
    return Comparison(megabits, method, seconds[1], seconds[2])


def write_traces(trainers: dict[int, Trainer], folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for lanes, trainer in trainers.items():
        file = folder / f"{name}-{lanes}-lanes-rank{dist.get_rank()}.json"
        with trainer.compression.trace(file):
            trainer.step()


def run_link(megabits: int, blocks: int, steps: int, trace: str) -> list[Comparison]:
    command = [sys.executable, "-m", "benchmarks.overlap", "--link", str(megabits)]
    command += ["--blocks", str(blocks), "--steps", str(steps), "--trace", trace]
    with linked_namespaces(megabits) as names:
        return results_in(run_on_link(names, command), Comparison)


def tables(data: list[dict]) -> list[Grid]:
    columns = "link", "method", "one lane", "two lanes", "two / one", "of blocks"
    rows = [
        (
            f"{result.megabits:,} Mb/s",
            result.method,
            f"{1e3 * median(result.one_lane):.0f} ms",
            f"{1e3 * median(result.two_lanes):.0f} ms",
            f"{median(result.two_lanes) / median(result.one_lane):.2f}",
            f"{min(result.ratios):.2f} to {max(result.ratios):.2f}",
        )
        for result in (Comparison(**row) for row in data)
    ]
    return [Grid(columns, rows, labels=2)]


def main(
    blocks: Annotated[int, typer.Option(min=1, help="Of each number of lanes.")] = 7,
    steps: Annotated[int, typer.Option(min=1, help="In a block.")] = 4,
    trace: Annotated[str, typer.Option(help="Folder for a Chrome trace of one step.")] = "",
    link: Annotated[int, typer.Option(hidden=True, help="Run as a rank on this link.")] = 0,
) -> None:
    """Compare one lane with two on links of 100 Mb/s and 1 Gb/s."""
    if link:
        run_as_rank(lambda: (compare(link, method, blocks, steps, trace) for method in METHODS))
        return
    require_namespaces()
    results = [result for mb in MEGABITS for result in run_link(mb, blocks, steps, trace)]
    publish("overlap", [asdict(result) for result in results], tables)


if __name__ == "__main__":
    typer.run(main)
