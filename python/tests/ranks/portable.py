"""One state for all ranks: the same everywhere, loaded by any number of them. What was not sent
yet is kept in the mean."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from common import (
    METHODS,
    assert_same_on_all_ranks,
    batch,
    pretend_nodes,
    process_group,
    small_model,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

POLICIES = {
    "planned": lgreco.LGreCo(every=4, start=4, window=2),
    "accordion": lgreco.Accordion(
        lgreco.PowerSGD(3, min_ratio=1), lgreco.PowerSGD(1, min_ratio=1), every=3
    ),
}
ACTION, NODE_RANKS, FOLDER = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


class Run:
    def __init__(self, method, policy=None):
        self.ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
        self.optimizer = torch.optim.SGD(self.ddp.parameters(), lr=0.05, momentum=0.9)
        self.compression = lgreco.compress(self.ddp, lgreco.method(method), policy, seed=3)

    def train(self, rank, steps):
        for step in steps:
            x, y = batch(rank, step)
            self.optimizer.zero_grad()
            functional.cross_entropy(self.ddp(x), y).backward()
            assert_same_on_all_ranks([p.grad for p in self.ddp.parameters()], "averages")
            self.optimizer.step()


def tensors_in(state):
    return [
        tensor
        for name in sorted(state["layers"])
        for tensor in state["layers"][name].values()
        if isinstance(tensor, torch.Tensor)
    ]


def everybodys(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def held_residuals(compression):
    """By layer: of the ranks that hold it, in their order."""
    held = {}
    for layers in everybodys(compression.state_dict()["layers"]):
        for name, layer in layers.items():
            held.setdefault(name, []).append(layer["residual"])
    return held


def mean_of(residuals):
    """As a portable state has it: in fp64, in the order of the ranks, rounded once."""
    total = sum((r.double() for r in residuals if r.numel()), torch.zeros(1).double())
    return (total / len(residuals)).float()


def check_mean(compression, portable):
    held = held_residuals(compression)
    assert held.keys() == portable["layers"].keys()
    for name, residuals in held.items():
        if any(r.numel() for r in residuals):
            assert torch.equal(portable["layers"][name]["residual"], mean_of(residuals)), name
        else:
            assert portable["layers"][name]["residual"].numel() == 0, name


def check_loaded(compression, portable):
    """Every holder has the mean: the mean over them is what it was."""
    for name, residuals in held_residuals(compression).items():
        for residual in residuals:
            assert torch.equal(residual, portable["layers"][name]["residual"]), name
    assert compression.state_dict()["step"] == portable["step"]
    levels = {n: portable["plan"]["levels"][n] for n in compression.plan}
    assert {n: str(m) for n, m in compression.plan.items()} == levels


def cases():
    yield from ((method, method, None) for method in METHODS)
    yield from ((name, "low_rank:2:min_ratio=1", policy) for name, policy in POLICIES.items())


def save(rank):
    for name, method, policy in cases():
        run = Run(method, policy)
        run.train(rank, range(7))
        before = run.compression.state_dict()
        portable = run.compression.portable_state_dict()
        again = run.compression.portable_state_dict()
        assert run.compression.state_dict()["checksum"] == before["checksum"]
        for other in [again["checksum"], *everybodys(portable["checksum"])]:
            assert other == portable["checksum"], "not the same everywhere"
        assert_same_on_all_ranks(tensors_in(portable), "portable states")
        assert list(portable["layers"]) == [n for n, _ in run.ddp.module.named_parameters()]
        check_mean(run.compression, portable)
        if rank == 0:
            torch.save([run.ddp.module.state_dict(), portable], FOLDER / f"{name}.pt")
        run.train(rank, range(7, 12))


def load(rank):
    for name, method, policy in cases():
        weights, portable = torch.load(FOLDER / f"{name}.pt", weights_only=True)
        run = Run(method, policy)
        run.ddp.module.load_state_dict(weights)
        run.compression.load_state_dict(portable, step=7)
        check_loaded(run.compression, portable)
        run.train(rank, range(7, 12))
        assert run.compression.stats()["steps"] == 12
        if name == "planned":
            assert run.compression.stats()["plans"] == 3
            assert run.compression.stats()["plan_failures"] == 0


def refuse(rank):
    """On all ranks, whichever has something else; and nothing has changed."""
    run = Run("quantize:4")
    run.train(rank, range(3))
    good = run.compression.portable_state_dict()
    name = next(iter(good["layers"]))
    layer = good["layers"][name]
    of_others = Run("quantize:3").compression.portable_state_dict()
    before = run.compression.state_dict()["checksum"]
    for bad in (
        {**good, "step": 4},
        {**good, "checksum": "0" * 16},
        {**good, "format": 1},
        {**good, "layers": {n: v for n, v in good["layers"].items() if n != name}},
        {**good, "layers": {**good["layers"], name: {**layer, "residual": torch.ones(3)}}},
        {key: value for key, value in good.items() if key != "plan"},
        {key: value for key, value in good.items() if key != "portable"},
        {**run.compression.state_dict(), "portable": True},
        [good, good],
        of_others,
        Run("quantize:4").compression.portable_state_dict(),  # of another step
        {},
    ):
        for victim in range(dist.get_world_size()):
            try:
                run.compression.load_state_dict(bad if rank == victim else good)
            except lgreco.StateError:
                continue
            raise AssertionError("loaded a bad state")
    assert run.compression.state_dict()["checksum"] == before, "a refused state changes nothing"
    run.compression.load_state_dict(good, world_size_change="reset")
    assert run.compression.stats()["residual_norm"] == 0
    run.train(rank, range(3, 5))


with process_group() as (rank, size):
    pretend_nodes(rank, NODE_RANKS)
    {"save": save, "load": load}[ACTION](rank)
    if size > 1:
        refuse(rank)
    dist.barrier()
    if rank == 0:
        print(f"{ACTION} on {size} ranks: done")
