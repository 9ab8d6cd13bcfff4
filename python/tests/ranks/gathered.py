"""A checkpoint that rank 0 alone writes, of every front end's state; and what step it is of."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from common import process_group

import lgreco

LAYERS = {"a": (64, 96), "b": (9000,)}


def average(aggregator, rank, step):
    generator = torch.Generator().manual_seed(100 * step + rank)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in LAYERS.items()}
    aggregator.average_(tensors)
    return tensors


def refused(call, reason):
    """On all ranks alike."""
    try:
        call()
    except lgreco.StateError as error:
        assert reason in str(error), error
    else:
        raise AssertionError(f"not refused: {reason}")


with process_group() as (rank, size):
    path = Path(sys.argv[1]) / "all.pt"
    whole = lgreco.Aggregator(LAYERS, lgreco.Quantize(2))
    for step in range(3):
        average(whole, rank, step)
    states = whole.gathered_state_dict()
    assert (states is None) == (rank > 0)
    if states is not None:
        torch.save(states, path)
    dist.barrier()
    states = torch.load(path, weights_only=True)
    assert [state["rank"] for state in states] == list(range(size))
    after = average(whole, rank, 3)

    for change in ("fail", "mean", "reset"):  # the number of ranks did not change
        resumed = lgreco.Aggregator(LAYERS, lgreco.Quantize(2))
        resumed.load_state_dict(states, world_size_change=change, step=3)
        for name, tensor in average(resumed, rank, 3).items():
            assert torch.equal(tensor, after[name]), f"{change}, {name}"

    before = resumed.state_dict()["checksum"]
    refused(lambda: resumed.load_state_dict(states, step=4), "step 4 is wanted")
    refused(
        lambda: resumed.load_state_dict(states, step=3 + (rank == 1)),
        "step 4 is wanted",  # rank 1 alone wants it, and all say so
    )
    refused(lambda: resumed.load_state_dict([*states, states[0]]), "not those of as many ranks")
    refused(lambda: resumed.load_state_dict([states[1]] * size), "" if rank else "no state of this")
    assert resumed.state_dict()["checksum"] == before
    dist.barrier()
    if rank == 0:
        print("rank 0 holds all states")
