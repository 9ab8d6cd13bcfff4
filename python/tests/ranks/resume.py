"""A run resumed from files is the run that was never stopped: parameters, plan, bytes."""

import sys
from pathlib import Path

import torch
from common import METHODS, batch, process_group, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco

STEPS, STOP = 12, 7


class Run:
    def __init__(self, spelling):
        self.ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
        self.optimizer = torch.optim.SGD(self.ddp.parameters(), lr=0.05, momentum=0.9)
        policy = lgreco.LGreCo(every=3, start=3, window=2)
        self.compression = lgreco.compress(self.ddp, lgreco.method(spelling), policy, seed=3)

    def train(self, rank, first, last):
        for step in range(first, last):
            self.optimizer.zero_grad()
            x, y = batch(rank, step)
            functional.cross_entropy(self.ddp(x), y).backward()
            self.optimizer.step()

    def save(self, path):
        parts = (self.ddp.module, self.optimizer, self.compression)
        torch.save([part.state_dict() for part in parts], path)

    def load(self, path):
        model, optimizer, compression = torch.load(path, weights_only=True)
        self.ddp.module.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.compression.load_state_dict(compression)

    def end(self):
        stats = self.compression.stats()
        counts = {k: v for k, v in stats.items() if not k.endswith("_s")}
        return [p.detach() for p in self.ddp.parameters()], self.compression.plan, counts


with process_group() as (rank, size):
    for spelling in METHODS:
        path = Path(sys.argv[1]) / f"state-{rank}.pt"
        whole = Run(spelling)
        whole.train(rank, 0, STOP)
        whole.save(path)
        whole.train(rank, STOP, STEPS)

        resumed = Run(spelling)
        resumed.train(rank, 50, 52)  # other gradients, and the bucket rebuild
        resumed.load(path)
        resumed.train(rank, STOP, STEPS)
        for a, b in zip(whole.end()[0], resumed.end()[0], strict=True):
            assert torch.equal(a, b), spelling
        assert whole.end()[1:] == resumed.end()[1:], spelling

        other = torch.load(path, weights_only=True)[2]
        for change in (
            {"rank": size - 1 - rank + (size == 1), "size": size + 1},
            {"format": 99},
            {"layers": {}},
            {"plan": {**other["plan"], "levels": {}}},
        ):
            try:
                resumed.compression.load_state_dict({**other, **change})
            except lgreco.StateError:
                continue
            raise AssertionError(f"loaded a state with {list(change)} changed")
        assert whole.end()[1] == resumed.end()[1], "a refused state changes nothing"
    if rank == 0:
        print("resumed runs are the same runs")
