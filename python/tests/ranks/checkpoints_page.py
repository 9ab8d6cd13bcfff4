"""Runs the examples of docs/checkpoints.md, one after another, as they stand."""

import re
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from common import batch, process_group, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

PAGE = Path(__file__).resolve().parents[3] / "docs/checkpoints.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def train(ddp, rank, steps):
    for step in steps:
        x, y = batch(rank, step)
        functional.cross_entropy(ddp(x), y).backward()


with process_group() as (rank, size):
    assert len(EXAMPLES) == 3, "an example came or went: say here what it must show"
    for number, example in enumerate(EXAMPLES):
        ddp = DistributedDataParallel(small_model())
        compression = lgreco.compress(ddp, lgreco.Quantize(4))
        train(ddp, rank, range(3))
        before = compression.state_dict()["checksum"]
        # Saving and loading, with a step in between that is to be forgotten.
        save, load = (part.strip() for part in re.split(r"\n\n(?=saved|dcp\.load)", example))
        names = {
            "torch": torch, "dist": dist, "lgreco": lgreco, "ddp": ddp, "compression": compression,
            "rank": rank, "path": f"{sys.argv[1]}/example{number}",
        }  # fmt: skip
        exec(save, names)
        dist.barrier()
        train(ddp, rank, range(3, 4))
        exec(load, names)
        state = compression.state_dict()
        assert state["step"] == 3
        assert (state["checksum"] == before) == (number != 1), f"example {number}"
    if rank == 0:
        print("the examples work")
