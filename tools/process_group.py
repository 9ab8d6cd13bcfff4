"""A rank's side of a run: its group, from start to end."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import torch
import torch.distributed as dist


@contextlib.contextmanager
def gloo_group() -> Iterator[None]:
    """The default process group over Gloo, for ranks of one thread."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        # With the models gone, the group's threads end here, and not at the exit of Python, where
        # releasing a tensor aborts the process.
        gc.collect()
        dist.destroy_process_group()
