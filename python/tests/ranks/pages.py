"""The examples of pages of the documentation, run on every rank, each page from top to bottom.

The arguments are pages. What the blocks of a page share is one namespace, which starts with torch,
lgreco and what a training script has: `model`, `ddp`, `optimizer`, `loss_function`, `batches` (of
this rank). A block that calls lgreco.compress() or OuterStep() gets a new model first. Blocks of sh
are run by rank 0.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from common import process_group
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

sys.path.insert(0, str(Path(__file__).parents[1]))
from fenced_blocks import Block, blocks_of


def stock(rank: int) -> dict[str, object]:
    """Names that examples take for granted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    ddp = DistributedDataParallel(model)
    generator = torch.Generator().manual_seed(rank)
    inputs = [torch.randn(16, 64, generator=generator) for _ in range(4)]
    return {
        "model": model,
        "ddp": ddp,
        "optimizer": torch.optim.SGD(ddp.parameters(), lr=0.05),
        "loss_function": functional.cross_entropy,
        "batches": [(x, x[:, :10].argmax(1)) for x in inputs],
    }


def run_shell(block: Block) -> None:
    for line in block.text.splitlines():
        command = shlex.split(line, comments=True)
        print("$", *command, flush=True)
        subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:]], check=True)


def run_page(page: Path, rank: int) -> int:
    """How many examples it has."""
    shared = {"torch": torch, "nn": nn, "dist": dist, "lgreco": lgreco, "rank": rank}
    shared |= {"DistributedDataParallel": DistributedDataParallel} | stock(rank)
    blocks = [block for block in blocks_of(page.read_text()) if not block.reason]
    for block in blocks:
        if block.language == "python":
            if re.search(r"lgreco\.(compress|OuterStep)\(", block.text):
                shared |= stock(rank)
            code = "\n" * (block.line - 1) + block.text  # errors name the line of the page
            exec(compile(code, str(page), "exec"), shared)
        elif rank == 0:
            run_shell(block)
        dist.barrier()
    return len(blocks)


with process_group() as (rank, _):
    for argument in sys.argv[1:]:
        count = run_page(Path(argument), rank)
        if rank == 0:
            print(f"{argument}: {count} examples ran", flush=True)
