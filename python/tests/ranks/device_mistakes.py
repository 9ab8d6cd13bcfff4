"""Every mistake of tests/fake_device/mistakes.py, planted for one step: the fake device finds it,
always, whatever the delays. And nothing where there is none."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[3] / "tests/fake_device"))
import fake_device
from mistakes import MISTAKES

plant = fake_device.plant_mistakes()

import lgreco  # noqa: E402

TIMES = 20


class Subject:
    """What makes one step in each way that gradients come from a device."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).to("fake:0")
        self.ddp = DistributedDataParallel(model, bucket_cap_mb=0.01)
        method = lgreco.Quantize(bits=4)
        lgreco.compress(self.ddp, method, drift_check_every=0, timeout=60)
        self.aggregator = lgreco.Aggregator({"given": (64, 64)}, method, timeout=60)
        self.start = {name: value.clone() for name, value in model.state_dict().items()}
        self.own_stream = torch.Stream("fake:0")

    def step(self) -> None:
        self.ddp.zero_grad()
        self.ddp(torch.randn(8, 64).to("fake:0")).square().mean().backward()
        with torch.no_grad():
            for parameter in self.ddp.parameters():
                parameter -= 0.1 * parameter.grad
        self.average()

    def average(self) -> None:
        """And use the average; then of memory of another stream, which reuses it when it may."""
        used = torch.randn(64, 64).to("fake:0")
        self.aggregator.average_({"given": used})
        used.add_(1)
        with torch.fake.stream(self.own_stream):
            given = torch.randn(64, 64).to("fake:0")
        torch.fake.current_stream().wait_stream(self.own_stream)
        self.aggregator.average_({"given": given})
        del given
        with torch.fake.stream(self.own_stream):
            torch.zeros(64, 64, device="fake:0")

    def races(self) -> list[str]:
        """Of this step, after which everything is as before it."""
        for index in range(2):
            torch.fake.synchronize(index)
        races = fake_device.take_races()
        with torch.no_grad():
            self.ddp.module.load_state_dict(self.start)
        for index in range(2):
            torch.fake.synchronize(index)
        return races


dist.init_process_group("cpu:gloo,fake:fake_collectives")
torch.set_num_threads(1)
warnings.simplefilter("ignore")
subject = Subject()
subject.step()
subject.races()
for delay in (0, 2000):
    fake_device.set_delays(delay // 10, delay)
    for _ in range(TIMES):
        subject.step()
        races = subject.races()
        assert not races, races
    for mistake in MISTAKES:
        found = 0
        for _ in range(TIMES):
            plant(mistake.name)
            with contextlib.suppress(lgreco.Error):
                subject.step()
            plant("")
            found += bool(subject.races())
        assert found == TIMES, f"{mistake.name}: {found} of {TIMES}, delays of {delay} us"
if dist.get_rank() == 0:
    print(f"{len(MISTAKES)} mistakes are found, {TIMES} times each")
sys.stdout.flush()
dist.barrier()
os._exit(0)
