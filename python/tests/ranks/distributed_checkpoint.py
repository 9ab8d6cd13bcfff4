"""torch.distributed.checkpoint saves and loads what each rank has: on as many ranks the run that
was never stopped, on another number one that has the mean of what was not sent yet."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from common import (
    METHODS,
    assert_same_on_all_ranks,
    batch,
    mean_residuals,
    pretend_nodes,
    process_group,
    small_model,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

ACTION, NODE_RANKS, FOLDER = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
CASES = {method: (method, None) for method in METHODS} | {
    "planned": ("low_rank:2:min_ratio=1", lgreco.LGreCo(every=4, start=4, window=2)),
    "accordion": (
        "low_rank:2:min_ratio=1",
        lgreco.Accordion(lgreco.PowerSGD(3, min_ratio=1), lgreco.PowerSGD(1, min_ratio=1), every=3),
    ),
}


class Run:
    def __init__(self, case):
        method, policy = CASES[case]
        self.ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
        self.compression = lgreco.compress(self.ddp, lgreco.method(method), policy, seed=3)
        self.state = {
            "model": self.ddp.module,
            "lgreco": lgreco.DistributedState(self.compression),
        }

    def train(self, rank, steps):
        for step in steps:
            x, y = batch(rank, step)
            self.ddp.zero_grad()
            functional.cross_entropy(self.ddp(x), y).backward()
            assert_same_on_all_ranks([p.grad for p in self.ddp.parameters()], "averages")
            with torch.no_grad():
                for parameter in self.ddp.parameters():
                    parameter -= 0.05 * parameter.grad

    def end(self):
        """All that must be equal; neither times are nor, as bucket rebuilds differ, messages."""
        state = self.compression.state_dict()
        layers = [v for layer in state["layers"].values() for v in layer.values()]
        of_traffic = ("bytes_sent", "bytes_received", "messages_sent")
        counts = {
            k: v for k, v in state["stats"].items() if not k.endswith("_s") and k not in of_traffic
        }
        tensors = [*self.ddp.parameters(), *(v for v in layers if isinstance(v, torch.Tensor))]
        return [t.detach() for t in tensors], self.compression.plan, counts


def save(rank):
    other = dist.new_group()  # async_save's own, while training uses the default one
    for case in CASES:
        run = Run(case)
        run.train(rank, range(7))
        before = run.compression.state_dict()
        means = mean_residuals(run.compression)
        dcp.save(run.state, checkpoint_id=FOLDER / case)
        saving = dcp.async_save(
            run.state, checkpoint_id=FOLDER / f"{case} async", process_group=other
        )
        run.train(rank, range(7, 12))
        saving.result()
        torch.save([before, run.end()], FOLDER / f"{case} {rank}.pt")
        if rank == 0:
            torch.save(means, FOLDER / f"{case} means.pt")


def load(rank, *, as_saved):
    for case in CASES:
        means = torch.load(FOLDER / f"{case} means.pt", weights_only=True)
        for kind in ("", " async"):
            run = Run(case)
            if case == "topk:0.02":
                run.train(rank, range(20, 22))  # into what is there
            dcp.load(run.state, checkpoint_id=FOLDER / f"{case}{kind}")
            state = run.compression.state_dict()
            assert state["step"] == 7
            if not as_saved:
                now = mean_residuals(run.compression)
                for name, mean in means.items():
                    assert now[name].shape == mean.shape, name
                    if mean.numel():
                        assert (now[name] - mean).abs().max() <= 1e-6 * mean.abs().max(), name
                run.train(rank, range(7, 12))
                continue
            before, end = torch.load(FOLDER / f"{case} {rank}.pt", weights_only=False)
            assert state["checksum"] == before["checksum"], case
            run.train(rank, range(7, 12))
            for a, b in zip(end[0], run.end()[0], strict=True):
                assert torch.equal(a, b), case
            assert run.end()[1:] == end[1:], case


def refuse(rank):
    """A state of other settings changes nothing, on no rank."""
    CASES["other"] = ("topk:0.05", None)
    run = Run("other")
    run.train(rank, range(2))
    before = run.compression.state_dict()["checksum"]
    try:
        dcp.load({"lgreco": run.state["lgreco"]}, checkpoint_id=FOLDER / "topk:0.02")
        raise AssertionError("loaded a state of other settings")
    except lgreco.StateError as error:
        assert "other settings" in str(error), error
    good = run.state["lgreco"].state_dict()
    common, ranks = good["common"]
    for bad in ({}, {**good, "common": 7}, {**good, "common": (common, ranks[:-1])}):
        try:
            run.state["lgreco"].load_state_dict(bad if rank == 0 else good)
            raise AssertionError("loaded what is no state")
        except lgreco.StateError:
            pass
    assert run.compression.state_dict()["checksum"] == before
    run.state["lgreco"].load_state_dict(good)
    run.train(rank, range(2, 4))


with process_group() as (rank, size):
    pretend_nodes(rank, NODE_RANKS)
    if ACTION == "save":
        save(rank)
    else:
        load(rank, as_saved=ACTION == "load_exact")
        refuse(rank)
    dist.barrier()
    if rank == 0:
        print(f"{ACTION} on {size} ranks: done")
