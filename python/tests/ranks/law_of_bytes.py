"""What a pass sends, by every front end: 2 (N - 1) / N of the payload of exactly the layers that
are in it, and the frames."""

import torch
import torch.distributed as dist
from common import process_group
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import lgreco
from lgreco import _core

PASSES = 3
LAYERS = 16
WIDTH = 256
ELEMENTS = LAYERS * WIDTH * WIDTH
# What Gloo sends beside it, its frame, the body of a commit, and a layer's flag and alignment.
MOST_OF_A_FRAME = _core.GLOO_MESSAGE_BYTES + _core.FRAME_BYTES + 64 + 4 * LAYERS


def check(what, compression, ranks, elements, payload, passes=PASSES):
    """Over `ranks` that average; `payload` in bytes an element."""
    stats = compression.stats()
    assert stats["steps"] == passes, (what, stats["steps"])
    share = 2 * (ranks - 1) / ranks * passes * elements
    assert stats["dense_bytes"] == 4 * share, (what, stats["dense_bytes"], 4 * share)
    frames = stats["bytes_sent"] - AT_REGISTRATION[id(compression)][0] - payload * share
    messages = stats["messages_sent"] - AT_REGISTRATION[id(compression)][1]
    assert 0 <= frames <= messages * MOST_OF_A_FRAME, (what, frames, messages)
    assert frames <= 0.03 * payload * share, (what, frames / (payload * share))
    ratio = stats["dense_bytes"] / stats["bytes_sent"]
    assert stats["ratio"] == ratio and abs(ratio * payload / 4 - 1) < 0.05, (what, ratio)
    return stats["bytes_sent"] - AT_REGISTRATION[id(compression)][0]


AT_REGISTRATION = {}


def registered(compression):
    stats = compression.stats()
    AT_REGISTRATION[id(compression)] = (stats["bytes_sent"], stats["messages_sent"])
    return compression


def model():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))


def run(model, passes=PASSES):
    for _ in range(passes):
        model(torch.randn(4, WIDTH)).square().mean().backward()


def check_ddp(method, payload, ranks):
    ddp = DistributedDataParallel(model(), bucket_cap_mb=1)
    compression = registered(lgreco.compress(ddp, method))
    run(ddp)
    check("DDP", compression, ranks, ELEMENTS, payload)


def check_fsdp(method, payload, mesh):
    sent = {}
    for groups in (1, 4, 16):
        sharded = model()
        each = LAYERS // groups
        for first in range(0, LAYERS if groups > 1 else 0, each):
            fully_shard([*sharded[first : first + each]], mesh=mesh["shard"])
        if groups == 1:
            fully_shard(sharded, mesh=mesh["shard"])
        else:
            fully_shard(sharded, mesh=mesh["shard"])  # has no parameters of its own
        compression = registered(
            lgreco.compress_replicas(sharded, method, replicate_group=mesh.get_group("replicate"))
        )
        assert len(compression.plan) == LAYERS
        run(sharded)
        sent[groups] = check(f"FSDP2, {groups} groups", compression, 2, ELEMENTS // 2, payload)
    assert sent[16] < 1.03 * sent[1], sent


def check_average(method, payload, rank, ranks):
    names = [f"layer {i}" for i in range(LAYERS)]
    layers = {name: torch.randn(WIDTH, WIDTH) for name in names}
    all_of_them = registered(lgreco.Aggregator(layers, method))
    for _ in range(PASSES):
        all_of_them.average_(layers)
    check("average_ of all", all_of_them, ranks, ELEMENTS, payload)

    some = registered(lgreco.Aggregator(layers, method))
    for _ in range(PASSES):
        # What one rank alone gives is in it, and what nobody gives is not.
        some.average_({name: layers[name] for name in names[: 4 if rank == 0 else 3]})
    check("average_ of some", some, ranks, ELEMENTS // LAYERS * 4, payload)
    given = dict(layers) if rank != 1 else {"no such layer": layers[names[0]]}
    try:
        some.average_(given)
    except lgreco.ConfigError as error:
        assert "'no such layer' is no registered layer" in str(error), error
    else:
        raise AssertionError("not refused")
    some.average_({names[0]: layers[names[0]]})


with process_group() as (rank, size):
    mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("replicate", "shard"))
    for method, payload in ((lgreco.Dense(), 4), (lgreco.Cast("bf16"), 2)):
        check_ddp(method, payload, size)
        check_fsdp(method, payload, mesh)
        check_average(method, payload, rank, size)
    dist.barrier()
    if rank == 0:
        print("a pass sends its layers")
