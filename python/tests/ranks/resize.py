"""Save on some ranks, or load what others saved: the mean of what was not sent yet is kept."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from common import mean_over_ranks, process_group

import lgreco

LAYERS = {"a": (64, 96), "b": (9000,)}
METHOD = lgreco.Quantize(bits=2)
action, folder = sys.argv[1], Path(sys.argv[2])


def average(aggregator, rank, step):
    generator = torch.Generator().manual_seed(100 * step + rank)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in LAYERS.items()}
    aggregator.average_(tensors)


with process_group() as (rank, size):
    aggregator = lgreco.Aggregator(LAYERS, METHOD)
    if action == "save":
        for step in range(5):
            average(aggregator, rank, step)
        state = aggregator.state_dict()
        torch.save(state, folder / f"{rank}.pt")
        means = {n: mean_over_ranks(layer["residual"]) for n, layer in state["layers"].items()}
        torch.save(means, folder / "means.pt")
    else:
        states = [torch.load(f, weights_only=True) for f in sorted(folder.glob("[0-9]*.pt"))]
        assert len(states) != size
        try:
            aggregator.load_state_dict(states[0])
            raise AssertionError("loaded the state of another number of ranks")
        except lgreco.StateError as error:
            assert f"of {len(states)}" in str(error), error
        try:
            aggregator.load_state_dict(states[:-1], world_size_change="mean")
            raise AssertionError("loaded the states of some ranks")
        except lgreco.StateError:
            pass
        for change in ("mean", "keep"):
            aggregator.load_state_dict(states, world_size_change=change)
            for name, mean in torch.load(folder / "means.pt", weights_only=True).items():
                kept = aggregator.state_dict()["layers"][name]["residual"]
                own = torch.zeros_like(kept)
                if rank < len(states):
                    own = states[rank]["layers"][name]["residual"]
                if change == "keep" and size > len(states):
                    assert torch.equal(kept, own * size / len(states)), name
                error = (mean_over_ranks(kept) - mean).abs().max()
                assert error <= 1e-6 * mean.abs().max(), f"{change}, {name}"
            assert aggregator.state_dict()["step"] == 5
            average(aggregator, rank, 5)
        aggregator.load_state_dict(states[0], world_size_change="reset")
        assert aggregator.stats()["residual_norm"] == 0
        average(aggregator, rank, 5)
    dist.barrier()
    if rank == 0:
        print(f"{action} on {size} ranks: done")
