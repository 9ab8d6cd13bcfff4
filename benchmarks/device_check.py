"""Whether lgreco works on this machine's accelerator, and how fast: two ranks on one device.

python -m benchmarks.device_check          (scripts/device_check)
python -m benchmarks.device_check fake     the tests' device of threads, where there is no other

Every method must give the bits of the same gradients on the CPU, through the DDP hook and through
`Aggregator.average_`. On a real device it also measures copies between device and host, and steps
of models of 25 and 355 million parameters. Five minutes; the larger model needs 28 GB of host
memory, and is left out where there is less. On CUDA, where nvcc is installed, the kernels of
`src/device` are built, compared with the CPU's codecs and timed, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco
from tools.ranks import on_loopback, torchrun

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "tests/fake_device"
RANKS = 2
STEPS = 3
METHODS = (
    "dense",
    "cast:bf16",
    "quantize:4",
    "quantize:2",
    "topk:0.01",
    "entropy:0.5",
    "low_rank:4:min_ratio=1",
    "low_rank:4:min_ratio=1:factors=8",
)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MILLIONS = (25, 355)
BYTES_A_PARAMETER = 40  # of host memory, two ranks together
SECONDS_FOR_STEPS = 60


class Product(nn.Module):
    """Its gradients are what it is called with, exactly."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, dtype=dtype)))

    def forward(self, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([(p * gradients[name]).sum() for name, p in self.named_parameters()])


SHAPES = {"matrix": (96, 80), "convolution": (32, 16, 3, 3), "vector": (5000,), "bias": (80,)}


def some_gradients(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()
    }


def check_bits(method: str, dtype: torch.dtype, device: torch.device, rank: int) -> None:
    """Through hook and Aggregator on the device, and Aggregator on the CPU."""
    level = lgreco.method(method)
    ddp = DistributedDataParallel(Product(SHAPES, dtype).to(device), bucket_cap_mb=0.05)
    lgreco.compress(ddp, level, drift_check_every=1)
    like = some_gradients(0, dtype)
    on_device, on_cpu = lgreco.Aggregator(like, level), lgreco.Aggregator(like, level)
    for step in range(STEPS):
        given = some_gradients(100 * step + rank, dtype)
        there = {name: gradient.to(device) for name, gradient in given.items()}
        ddp.zero_grad()
        ddp(there).sum().backward()
        on_device.average_(there)
        on_cpu.average_(given)
        for name, parameter in ddp.module.named_parameters():
            for how, found in (("the hook", parameter.grad), ("average_", there[name])):
                if not torch.equal(found.cpu(), given[name]):
                    raise SystemExit(
                        f"[device check] {method}, {dtype}, step {step}: {how} has other bits of "
                        f"'{name}' on {device} than on the CPU; please report it"
                    )


def copy_rates(device: torch.device) -> tuple[float, float]:
    """GB/s to the host and back, pinned memory."""
    there = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    here = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)

    def rate(target: torch.Tensor, source: torch.Tensor) -> float:
        seconds = []
        for _ in range(5):
            torch.accelerator.synchronize()
            begin = time.perf_counter()
            target.copy_(source, non_blocking=True)
            torch.accelerator.synchronize()
            seconds.append(time.perf_counter() - begin)
        return there.numel() / min(seconds) / 1e9

    return rate(here, there), rate(there, here)


def step_seconds(millions: int, method: str | None, device: torch.device) -> float:
    """Of a backward pass that does little but synchronise, by `method` or by DDP itself."""
    shapes = {f"matrix {i}": (1000, 1000) for i in range(millions)}
    ddp = DistributedDataParallel(Product(shapes, torch.float32).to(device))
    if method is not None:
        lgreco.compress(ddp, lgreco.method(method), drift_check_every=0)
    gradient = torch.randn(1000, 1000).to(device)
    gradients = dict.fromkeys(shapes, gradient)
    seconds: list[float] = []
    began = time.perf_counter()
    enough = torch.zeros(1)
    while not enough.item():
        loss = ddp(gradients).sum()
        torch.accelerator.synchronize()
        begin = time.perf_counter()
        loss.backward()
        torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - begin)
        ddp.zero_grad()
        late = time.perf_counter() - began > SECONDS_FOR_STEPS / 3
        enough.fill_(len(seconds) > 10 or (late and len(seconds) > 1))
        dist.all_reduce(enough, op=dist.ReduceOp.MAX)
    return median(seconds[1:])


def host_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure(device: torch.device, rank: int) -> None:
    if rank == 0:
        to_host, back = copy_rates(device)
        print(f"copies of pinned memory: {to_host:.1f} GB/s to the host, {back:.1f} GB/s back")
    dist.barrier()
    for millions in MILLIONS:
        if host_bytes() < millions * 1e6 * BYTES_A_PARAMETER * 2:
            if rank == 0:
                print(f"{millions} million parameters: not enough host memory")
            continue
        for method in (None, "quantize:4", "low_rank:4"):
            seconds = step_seconds(millions, method, device)
            if rank == 0:
                name = "DDP over Gloo, fp32" if method is None else method
                print(f"{millions} million parameters, {name}: {1e3 * seconds:.0f} ms a step")


def run_rank(kind: str) -> None:
    warnings.simplefilter("ignore")
    if kind == "fake":
        sys.path.insert(0, str(FAKE))
        import fake_device

        fake_device.set_delays(50, 500)
        dist.init_process_group("cpu:gloo,fake:fake_collectives")
    else:
        dist.init_process_group("gloo")
    rank = dist.get_rank()
    device = torch.device(kind, 0)
    torch.accelerator.set_device_index(0)
    for dtype in DTYPES:
        for method in METHODS:
            check_bits(method, dtype, device, rank)
    if kind == "fake":
        races = fake_device.take_races()
        assert not races, races
    if rank == 0:
        print(f"{len(METHODS)} methods, {len(DTYPES)} types: the bits of the CPU, on {device}")
    if kind != "fake":
        measure(device, rank)
    sys.stdout.flush()
    dist.barrier()
    os._exit(0)


def check_kernels() -> int:
    if shutil.which("nvcc") is None:
        print("kernels of CUDA: not checked, nvcc is not installed")
        return 0
    for step in (["--preset", "cuda"], ["--build", "--preset", "cuda", "--target", "cuda_check"]):
        built = subprocess.run(["cmake", *step], cwd=ROOT, capture_output=True, text=True)
        if built.returncode != 0:
            print(
                f"[device check] cmake {' '.join(step)} failed:\n{built.stdout[-4000:]}"
                f"{built.stderr[-4000:]}",
                file=sys.stderr,
            )
            return 1
    return subprocess.run([ROOT / "build/cuda/adaptors/cuda/cuda_check"]).returncode


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--rank"]:
        run_rank(arguments[1])
    if arguments not in ([], ["fake"]):
        print("usage: scripts/device_check [fake]", file=sys.stderr)
        return 2
    if arguments:
        sys.path.insert(0, str(FAKE))
        from building import build

        build("_fake_device")
        kind = "fake"
    else:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if accelerator is None:
            print(
                f"[device check] torch {torch.__version__} finds no accelerator on this machine: "
                "install a build of torch for it, or run: scripts/device_check fake",
                file=sys.stderr,
            )
            return 1
        kind = accelerator.type
    command = torchrun(RANKS, "-m", "benchmarks.device_check", "--rank", kind)
    failed = subprocess.run(command, env=on_loopback()).returncode
    return failed or (check_kernels() if kind == "cuda" else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
