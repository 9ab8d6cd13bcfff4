"""The trace of some steps: in one step, different buckets are encoded, on the wire and in the
backward pass at the same time.

Rank 1 begins its step when rank 0's backward pass has come to the input: rank 0 has encoded its
other buckets while the first was waiting for rank 1. Pauses in the backward pass let the engine's
threads come to their turn on a busy machine.
"""

import json
import sys
import time
from itertools import combinations
from pathlib import Path

import torch
import torch.distributed as dist
from common import process_group
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

TURN = 1.0  # s


def overlap(a, b):
    return a["ts"] < b["ts"] + b["dur"] and b["ts"] < a["ts"] + a["dur"]


def after_backward_of(layer, function):
    """Call it each time when the gradient of the layer's input is there."""
    layer.register_full_backward_hook(lambda *_: function())


def come_to_the_input():
    time.sleep(TURN)
    dist.send(torch.ones(1), dst=1)


with process_group() as (rank, size):
    model = nn.Sequential(*(nn.Linear(600, 600) for _ in range(6)))
    ddp = DistributedDataParallel(model, bucket_cap_mb=1)
    compression = lgreco.compress(ddp, lgreco.PowerSGD(4))
    path = Path(sys.argv[1]) / f"trace-{rank}.json"
    for step in range(6):
        if step == 3:  # buckets have been regrouped, connections are open
            trace = compression.trace(path)
            trace.__enter__()
            if rank == 0:
                after_backward_of(model[3], lambda: time.sleep(TURN))
                after_backward_of(model[0], come_to_the_input)
        if step >= 3 and rank == 1:
            dist.recv(torch.empty(1), src=0)
        ddp(torch.randn(16, 600, requires_grad=True)).sum().backward()
    trace.__exit__(None, None, None)

    events = json.loads(path.read_text())["traceEvents"]
    tracks = {
        track: [e for e in events if e["tid"] == track]
        for track in ("encode", "lane A", "lane B", "backward")
    }
    assert all(tracks.values()), {track: len(found) for track, found in tracks.items()}
    assert {e["args"]["bucket"] for e in tracks["encode"]} >= {0, 1, 2, 3}
    assert len(tracks["backward"]) == 3
    if rank == 0:
        for first, second in combinations(("encode", "lane A", "backward"), 2):
            assert any(
                overlap(a, b)
                for a in tracks[first]
                for b in tracks[second]
                if a["args"]["bucket"] != b["args"]["bucket"] or second == "backward"
            ), f"{first} and {second} never overlap"
        print("rounds and backward overlap")
