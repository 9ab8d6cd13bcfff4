"""Gloo's threads of lgreco's groups do not preempt others; all others stay as they are."""

import os
from collections import Counter
from pathlib import Path

import torch
from common import process_group

import lgreco


def policies() -> Counter[int]:
    """The scheduling policies of this process's threads."""
    tasks = Path("/proc/self/task").iterdir()
    return Counter(os.sched_getscheduler(int(task.name)) for task in tasks)


with process_group() as (rank, size):
    before = policies()
    aggregator = lgreco.Aggregator({"a": (64, 96)}, lgreco.Quantize(bits=4))
    aggregator.average_({"a": torch.ones(64, 96)})
    after = policies()
    assert set(before) == {os.SCHED_OTHER}, before
    assert set(after) == {os.SCHED_OTHER, os.SCHED_BATCH}, after
    assert after[os.SCHED_BATCH] % 2 == 0, "as many of each lane's group"
    assert after[os.SCHED_OTHER] > before[os.SCHED_OTHER], "lgreco's own"
    if rank == 0:
        print("wait for their turn")
