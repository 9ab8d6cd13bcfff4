"""Gloo's threads of lgreco's groups do not preempt others; all others stay as they are."""

import os
from collections import Counter
from pathlib import Path

import torch
from common import process_group

import lgreco


def policies(name: str) -> Counter[int]:
    """The scheduling policies of this process's threads of that name."""
    tasks = Path("/proc/self/task").iterdir()
    named = [task for task in tasks if (task / "comm").read_text().strip() == name]
    return Counter(os.sched_getscheduler(int(task.name)) for task in named)


with process_group() as (rank, size):
    before = policies("gloo_tcp_loop")
    aggregator = lgreco.Aggregator({"a": (64, 96)}, lgreco.Quantize(bits=4))
    aggregator.average_({"a": torch.ones(64, 96)})
    after = policies("gloo_tcp_loop")
    assert set(before) == {os.SCHED_OTHER}, before
    assert after - before == Counter({os.SCHED_BATCH: 2}), after  # one a lane
    others = policies(Path("/proc/self/comm").read_text().strip())
    assert set(others) == {os.SCHED_OTHER}, "this thread, and lgreco's"
    if rank == 0:
        print("wait for their turn")
