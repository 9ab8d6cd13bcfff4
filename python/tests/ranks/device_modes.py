"""Every way of using DDP, on the fake device: the bits of the run on the CPU, and no race.

Arguments: the modes, by name and with commas between them ("all"); the methods."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[3] / "tests/fake_device"))
import fake_device

import lgreco

STEPS = 4


@dataclass(frozen=True)
class Mode:
    ddp: dict[str, object] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    device: str = "fake:0"
    channels_last: bool = False
    sometimes_unused: bool = False
    micro_batches: int = 1
    joins: bool = False
    overflows_at: int = -1
    scales: tuple[float, ...] = (1.0,)  # of the loss, in turn
    resumes_at: int = -1
    on_side_stream: bool = False
    is_split: bool = False  # over both devices
    pageable: bool = False  # host memory, where none can be pinned


MODES = {
    "plain": Mode(),
    "bucket_view": Mode({"gradient_as_bucket_view": True}),
    "find_unused": Mode({"find_unused_parameters": True}, sometimes_unused=True),
    "static_graph": Mode({"static_graph": True}),
    "channels_last": Mode(channels_last=True),
    "bf16": Mode(dtype=torch.bfloat16),
    "fp16": Mode(dtype=torch.float16),
    "no_sync": Mode(micro_batches=2),
    "join": Mode(joins=True),
    "rebuild": Mode({"bucket_cap_mb": 0.02}),
    "overflow": Mode(overflows_at=1),
    "loss_scale": Mode(scales=(1024.0, 512.0)),
    "resume": Mode(resumes_at=2),
    "side_stream": Mode(on_side_stream=True),
    "second_device": Mode(device="fake:1"),
    "both_devices": Mode(is_split=True),
    "pageable": Mode(pageable=True),
}


class Model(nn.Module):
    """Convolutions, norms, matrices, one laid out channels-last or not, one that may be unused."""

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.tap = nn.Parameter(torch.randn(16, 32, 2, 2) * 0.05)
        self.body = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.side = nn.Linear(128, 128)
        self.head = nn.Linear(128, 10)
        if mode.channels_last:
            self.tap.data = self.tap.data.contiguous(memory_format=torch.channels_last)
        self.to(mode.dtype)

    def forward(self, x: torch.Tensor, use_side: bool) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x))).mean((2, 3))
        x = x @ self.tap.permute(0, 2, 3, 1).reshape(16, 128)
        x = x.to(self.head.weight.device)
        x = self.body(x)
        if use_side:
            x = x + self.side(x)
        return self.head(x)

    def place(self, mode: Mode, on_cpu: bool) -> None:
        if on_cpu:
            return
        self.to(mode.device)
        if mode.is_split:
            for part in (self.body, self.side, self.head):
                part.to("fake:1")


class Run:
    def __init__(self, mode: Mode, method: str, on_cpu: bool) -> None:
        self.mode = mode
        self.method = method
        self.on_cpu = on_cpu
        model = Model(mode)
        model.place(mode, on_cpu)
        self.wrap(model)

    def wrap(self, model: nn.Module) -> None:
        options = {"bucket_cap_mb": 0.1} | self.mode.ddp
        self.ddp = DistributedDataParallel(model, **options)
        self.compression = lgreco.compress(
            self.ddp, lgreco.method(self.method), drift_check_every=2, timeout=60
        )
        self.optimizer = torch.optim.SGD(self.ddp.parameters(), lr=0.05, foreach=False)

    def loss(self, seed: int, use_side: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(4, 3, 6, 6, generator=generator).to(self.mode.dtype)
        y = torch.randint(0, 10, (4,), generator=generator)
        output = self.ddp(x.to(self.ddp.module.stem.weight.device), use_side)
        return functional.cross_entropy(output.float(), y.to(output.device))

    def step(self, step: int, rank: int) -> None:
        mode = self.mode
        if step == mode.resumes_at:
            saved = self.compression.state_dict()
            self.wrap(self.ddp.module)
            self.compression.load_state_dict(saved)
        scale = mode.scales[step % len(mode.scales)]
        if mode.scales != (1.0,):
            self.compression.set_grad_scale(scale)
        self.optimizer.zero_grad()
        for micro in range(mode.micro_batches):
            is_last = micro == mode.micro_batches - 1
            with contextlib.nullcontext() if is_last else self.ddp.no_sync():
                use_side = not (mode.sometimes_unused and (step + rank) % 3 == 0)
                loss = self.loss(1000 * step + 10 * rank + micro, use_side) * scale
                if step == mode.overflows_at and rank == 1:
                    loss = loss * float("inf")
                loss.backward()
        if step == mode.overflows_at:
            assert self.compression.stats()["overflow_steps"] == 1
            return
        for parameter in self.ddp.parameters():
            if parameter.grad is not None:
                parameter.grad /= scale
        self.optimizer.step()

    def train(self, rank: int) -> list[torch.Tensor]:
        joined = Join([self.ddp]) if self.mode.joins else contextlib.nullcontext()
        steps = 2 + rank if self.mode.joins else STEPS
        with joined:
            for step in range(steps):
                self.step(step, rank)
        return [parameter.detach().cpu() for parameter in self.ddp.parameters()]


@contextlib.contextmanager
def side_stream(device: str, wanted: bool) -> Iterator[None]:
    with torch.fake.stream(torch.Stream(device) if wanted else None):
        yield


def check(name: str, mode: Mode, method: str, rank: int) -> None:
    where = f"{name}, {method}, rank {rank}"
    on_cpu = Run(mode, method, on_cpu=True)
    expected = on_cpu.train(rank)
    fake_device.take_races()
    pinning = fake_device.without_pinned_memory() if mode.pageable else contextlib.nullcontext()
    with side_stream(mode.device, mode.on_side_stream), pinning:
        run = Run(mode, method, on_cpu=False)
        found = run.train(rank)
    races = fake_device.take_races()
    assert not races, f"{where}: {races[:3]}"
    different = [
        layer
        for (layer, _), a, b in zip(run.ddp.named_parameters(), expected, found, strict=True)
        if not torch.equal(a, b)
    ]
    assert not different, f"{where}: {different} differ from the CPU's"
    assert run.compression.memory()["staging"] > 0
    for count in ("steps", "unapplied_steps"):
        assert run.compression.stats()[count] == on_cpu.compression.stats()[count], where


dist.init_process_group("cpu:gloo,fake:fake_collectives")
torch.set_num_threads(1)
warnings.simplefilter("ignore")
rank = dist.get_rank()
fake_device.set_delays(50, 500)
cases = 0
chosen = MODES if sys.argv[1] == "all" else sys.argv[1].split(",")
for name in chosen:
    for method in sys.argv[2:]:
        check(name, MODES[name], method, rank)
        cases += 1
if rank == 0:
    print(f"{cases} cases have the bits of the CPU, and no race")
sys.stdout.flush()
dist.barrier()
os._exit(0)
