"""Whatever the program has set for its own tensors and threads, the bits are the same."""

import contextlib
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from common import METHODS, batch, process_group, small_model
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lgreco


@contextlib.contextmanager
def setting(set_it, here, before):
    set_it(here)
    try:
        yield
    finally:
        set_it(before)


# The second says whether a training step has the same bits under it, without lgreco.
AMBIENT = {
    "default dtype": (lambda: setting(torch.set_default_dtype, torch.float64, torch.float32), True),
    "half as default": (
        lambda: setting(torch.set_default_dtype, torch.float16, torch.float32),
        True,
    ),
    "default device": (lambda: setting(torch.set_default_device, "meta", None), True),
    "device context": (lambda: torch.device("meta"), True),
    "no_grad": (torch.no_grad, False),
    "inference mode": (torch.inference_mode, False),
    "deterministic": (lambda: setting(torch.use_deterministic_algorithms, True, False), True),
    "anomaly mode": (lambda: torch.autograd.set_detect_anomaly(True), True),
    "threads": (lambda: setting(torch.set_num_threads, 3, 1), False),
    "denormals": (lambda: setting(torch.set_flush_denormal, True, False), False),
    "autocast": (lambda: torch.autocast("cpu", torch.bfloat16), False),
}
SHAPES = {"wide": (64, 96), "tall": (300, 20), "bias": (9,), "nothing": (0, 3)}


def train(spelling, rank, ambient, trains_alike):
    ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
    batches = [batch(rank, step) for step in range(4)]
    policy = lgreco.LGreCo(every=2, start=1, window=1)
    with ambient():
        compression = lgreco.compress(ddp, lgreco.method(spelling), policy)
    for step, (x, y) in enumerate(batches):
        with ambient() if trains_alike else contextlib.nullcontext():
            optimizer.zero_grad()
            functional.cross_entropy(ddp(x), y).backward()
            optimizer.step()
        with ambient():
            if step == 1:
                compression.load_state_dict(compression.state_dict(), step=2)
    with ambient():
        checksum = compression.state_dict()["plan"]["levels"]
    return [p.detach().clone() for p in ddp.parameters()] + tensors_of(compression), checksum


def tensors_of(compression):
    layers = compression.state_dict()["layers"].values()
    return [v.clone() for layer in layers for v in layer.values() if isinstance(v, torch.Tensor)]


def average(spelling, rank, ambient):
    """With gradients of every magnitude, down to denormals, and of other strides."""
    generator = torch.Generator().manual_seed(rank)
    given = [
        {
            name: torch.randn(shape[::-1], generator=generator).t() * scale
            if len(shape) == 2
            else torch.randn(shape, generator=generator) * scale
            for name, shape in SHAPES.items()
        }
        for scale in (1.0, 1e-20, 1e-37, 3e-39)
    ]
    with ambient():
        aggregator = lgreco.Aggregator(SHAPES, lgreco.method(spelling), seed=5)
        for step, tensors in enumerate(given):
            aggregator.average_(tensors)
            if step == 2:
                aggregator.set_grad_scale(2.0**-8)
                state = aggregator.state_dict()
                aggregator.load_state_dict(state)
        state = aggregator.state_dict()
    for layer in state["layers"].values():
        layer["residual"].add_(0)  # an ordinary tensor, whatever the mode was
    return [t for tensors in given for t in tensors.values()] + tensors_of(aggregator)


def check_timeout_is_the_groups(rank):
    group = dist.new_group(timeout=timedelta(seconds=3))
    aggregator = lgreco.Aggregator({"a": (8,)}, lgreco.Dense(), process_group=group)
    if rank == 0:
        begin = time.monotonic()
        try:
            aggregator.average_({"a": torch.ones(8)})
            raise AssertionError("averaged alone")
        except lgreco.PeerError:
            assert 2 < time.monotonic() - begin < 20
    dist.barrier()


def assert_equal(some, others, what):
    for a, b in zip(some, others, strict=True):
        assert torch.equal(a, b), what


with process_group() as (rank, size):
    before = torch.get_rng_state()
    for spelling in METHODS:
        expected = average(spelling, rank, contextlib.nullcontext)
        for name, (ambient, _) in AMBIENT.items():
            assert_equal(average(spelling, rank, ambient), expected, f"{spelling}, {name}")
    assert torch.equal(torch.get_rng_state(), before), "the program's random numbers are its own"
    for spelling in ("quantize:4", "low_rank:2:min_ratio=1"):
        expected, plan = train(spelling, rank, contextlib.nullcontext, True)
        for name, (ambient, trains_alike) in AMBIENT.items():
            got, its_plan = train(spelling, rank, ambient, trains_alike)
            assert_equal(got, expected, f"{spelling}, {name}")
            assert plan == its_plan, f"{spelling}, {name}"
    check_timeout_is_the_groups(rank)
    if rank == 0:
        print("ambient settings reach nothing")
