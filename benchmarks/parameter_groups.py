"""What a backward pass costs when FSDP2 cuts a model into parameter groups: time and bytes.

python -m benchmarks.parameter_groups      (make bench-groups)

Two replicas on this machine; sixteen matrices in 1, 4 and 16 groups. "plain" is FSDP2's own hybrid
sharding, which averages each group by itself. Passes of all models of a method alternate, so that
whatever else the machine does meets all.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import lgreco
from benchmarks.ranks import measured_on, run_as_rank
from benchmarks.report import Grid, at_most_times, publish, target_grid

RANKS = 2
PLAIN = "plain"
LAYERS = 16
WIDTH = 512
SAMPLES = 16
GROUPS = (1, 4, 16)
METHODS = (PLAIN, "cast:bf16", "quantize:4")
WARM_UP = 5
MOST_TIME, MOST_BYTES = 1.5, 1.03


@dataclass
class Grouped:
    method: str
    groups: int
    seconds: list[float]  # of passes
    sent_bytes: float  # by a rank in a pass


class Model:
    """Cut into `groups`, averaged over the replicas by FSDP2 itself or by `method`."""

    def __init__(self, method: str, groups: int) -> None:
        mesh = init_device_mesh("cpu", (RANKS, 1), mesh_dim_names=("replicate", "shard"))
        torch.manual_seed(0)
        self.net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
        own = mesh if method == PLAIN else mesh["shard"]
        each = LAYERS // groups
        for first in range(0, LAYERS if groups > 1 else 0, each):
            fully_shard([*self.net[first : first + each]], mesh=own)
        fully_shard(self.net, mesh=own)
        self.compression = None
        if method != PLAIN:
            self.compression = lgreco.compress_replicas(
                self.net, lgreco.method(method), replicate_group=mesh.get_group("replicate")
            )
        self.x = torch.randn(SAMPLES, WIDTH)

    def sent_bytes(self) -> float:
        """Since construction; not counted when plain."""
        return self.compression.stats()["bytes_sent"] if self.compression else 0

    def seconds(self) -> float:
        """Of a pass. Collective."""
        dist.barrier()
        begin = time.perf_counter()
        self.net(self.x).square().mean().backward()
        self.sent_bytes()  # waits for what is in flight
        dist.barrier()
        return time.perf_counter() - begin


def measure(method: str, rounds: int) -> list[Grouped]:
    """Collective."""
    models = {groups: Model(method, groups) for groups in GROUPS}
    for model in models.values():
        for _ in range(WARM_UP):
            model.seconds()
    before = {groups: model.sent_bytes() for groups, model in models.items()}
    seconds = {groups: [] for groups in GROUPS}
    for _ in range(rounds):
        for groups, model in models.items():
            seconds[groups].append(model.seconds())
    return [
        Grouped(
            method,
            groups,
            seconds[groups],
            (model.sent_bytes() - before[groups]) / rounds,
        )
        for groups, model in models.items()
    ]


def ratios(one: Grouped, many: Grouped) -> tuple[float, float]:
    """Of time, pass by pass, and of bytes."""
    times = [m / o for m, o in zip(many.seconds, one.seconds, strict=True)]
    return median(times), many.sent_bytes / max(one.sent_bytes, 1)


def tables(data: list[dict]) -> list[Grid]:
    results = [Grouped(**row) for row in data]
    whole = {result.method: result for result in results if result.groups == 1}
    cells, found = [], []
    for result in results:
        slower, more = ratios(whole[result.method], result)
        cells.append(
            (
                result.method,
                str(result.groups),
                f"{1e3 * median(result.seconds):.1f} ms",
                f"{slower:.2f}x",
                f"{result.sent_bytes / 1e6:.3f} MB" if more else "-",
                f"{more:.3f}x" if more else "-",
            )
        )
        if result.groups > 1 and result.method != PLAIN:
            what = f"{result.method}, {result.groups} groups over 1"
            found.append(at_most_times(f"{what}: time", slower, MOST_TIME))
            found.append(at_most_times(f"{what}: bytes", more, MOST_BYTES))
    columns = "method", "groups", "pass", "over one group", "sent by a rank", "over one group"
    return [Grid(columns, cells, labels=2), target_grid(found)]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Of passes.")] = 25,
    rank: Annotated[bool, typer.Option(hidden=True, help="Run as a rank.")] = False,
) -> None:
    """Time backward passes of FSDP2 models in 1, 4 and 16 groups."""
    if rank:
        run_as_rank(lambda: (result for method in METHODS for result in measure(method, rounds)))
        return
    results = measured_on(RANKS, "benchmarks.parameter_groups", Grouped, f"--rounds={rounds}")
    publish("groups", [asdict(result) for result in results], tables)


if __name__ == "__main__":
    typer.run(main)
