"""Peers that are killed or frozen at a random moment: the survivors get an error, in time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

RANKS = Path(__file__).parent / "ranks"
SIZE = 4
METHODS = ["dense", "cast:bf16", "quantize:4", "topk:0.02", "low_rank:2:min_ratio=1"]


@pytest.fixture(scope="module")
def context() -> Iterator[multiprocessing.context.BaseContext]:
    """Processes that start quickly, since torch is loaded once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(RANKS))  # the server knows no other path
        patch.syspath_prepend(RANKS)
        yield context


@contextlib.contextmanager
def training(context, method: str, timeout: float) -> Iterator[tuple[list, list]]:
    """SIZE training processes and their connections, once all of them train."""
    from faults import train_until_an_error
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True)
    processes: list[multiprocessing.Process] = []
    connections: list[Connection] = []
    try:
        for rank in range(SIZE):
            here, there = context.Pipe()
            process = context.Process(
                target=train_until_an_error,
                args=(rank, SIZE, store.port, method, timeout, there),
            )
            process.start()
            there.close()
            processes.append(process)
            connections.append(here)
        for connection in connections:
            assert connection.poll(60) and connection.recv() == "ready"
        yield processes, connections
    finally:
        for process in processes:
            process.kill()
            process.join()


def check_survivors(connections: list[Connection], victim: int, stop: float, limit: float) -> None:
    """Every survivor reports a PeerError within `limit` seconds of the time `stop`."""
    for rank, connection in enumerate(connections):
        if rank == victim:
            continue
        assert connection.poll(limit + 10), f"rank {rank} hangs"
        kind, message, when, same_parameters = connection.recv()
        assert kind == "PeerError", f"rank {rank}: {kind}: {message}"
        assert f"rank {rank}, step " in message, message
        assert same_parameters, f"rank {rank}: the failed step changed parameters"
        assert when - stop <= limit, f"rank {rank} needed {when - stop:.1f} s"


def attempts(count: int, quick: int) -> list:
    """The numbers below `count`; those from `quick` on are for `make test-faults` only."""
    return [pytest.param(i, marks=pytest.mark.slow if i >= quick else ()) for i in range(count)]


@pytest.mark.parametrize("attempt", attempts(30, quick=5))
def test_killed_peer(context, attempt):
    timeout = 120.0
    chance = random.Random(attempt)
    method = METHODS[attempt % len(METHODS)]
    with training(context, method, timeout) as (processes, connections):
        time.sleep(chance.uniform(0, 0.2))
        victim = chance.randrange(SIZE)
        stop = time.time()
        os.kill(processes[victim].pid, signal.SIGKILL)
        check_survivors(connections, victim, stop, limit=timeout / 2)


@pytest.mark.parametrize("attempt", range(2))
def test_frozen_peer(context, attempt):
    """The limit is the step's timeout, and not the 1800 s that a group has without one."""
    freeze_a_peer(context, attempt, timeout=15, limit=90)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(2, 10))
def test_frozen_peer_is_noticed_within_a_second_of_the_timeout(context, attempt):
    """For a machine that does nothing else."""
    freeze_a_peer(context, attempt, timeout=3, limit=4)


def freeze_a_peer(context, attempt: int, timeout: float, limit: float) -> None:
    chance = random.Random(100 + attempt)
    method = METHODS[attempt % len(METHODS)]
    with training(context, method, timeout) as (processes, connections):
        time.sleep(chance.uniform(0, 0.2))
        victim = chance.randrange(SIZE)
        stop = time.time()
        os.kill(processes[victim].pid, signal.SIGSTOP)
        check_survivors(connections, victim, stop, limit)
