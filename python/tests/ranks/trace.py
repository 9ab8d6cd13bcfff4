"""The trace of some steps: in one step, different buckets are encoded, on the wire and in the
backward pass at the same time."""

import json
import sys
from itertools import combinations
from pathlib import Path

import torch
from common import process_group
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco


def overlap(a, b):
    return a["ts"] < b["ts"] + b["dur"] and b["ts"] < a["ts"] + a["dur"]


with process_group() as (rank, size):
    model = nn.Sequential(*(nn.Linear(600, 600) for _ in range(6)))
    ddp = DistributedDataParallel(model, bucket_cap_mb=1)
    compression = lgreco.compress(ddp, lgreco.PowerSGD(4))
    path = Path(sys.argv[1]) / f"trace-{rank}.json"
    for step in range(6):
        if step == 3:  # buckets have been regrouped, connections are open
            trace = compression.trace(path)
            trace.__enter__()
        ddp(torch.randn(256, 600)).sum().backward()
    trace.__exit__(None, None, None)

    events = json.loads(path.read_text())["traceEvents"]
    tracks = {
        track: [e for e in events if e["tid"] == track]
        for track in ("encode", "lane A", "lane B", "backward")
    }
    assert all(tracks.values()), {track: len(found) for track, found in tracks.items()}
    assert {e["args"]["bucket"] for e in tracks["encode"]} >= {0, 1, 2, 3}
    assert len(tracks["backward"]) == 3
    for first, second in combinations(tracks, 2):
        pairs = [
            (a, b)
            for a in tracks[first]
            for b in tracks[second]
            if overlap(a, b)
            and (a["args"]["bucket"] != b["args"]["bucket"] or "backward" in (first, second))
        ]
        assert pairs or "lane B" in (first, second), f"{first} and {second} never overlap"
    if rank == 0:
        print("rounds and backward overlap")
