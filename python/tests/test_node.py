"""Node first: ranks of one machine as nodes of several; ranks/node_*.py hold the assertions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.namespaces import require_namespaces
from tools.ranks import on_loopback

RANKS = Path(__file__).parent / "ranks"


def may_make_nodes() -> bool:
    try:
        require_namespaces()
    except SystemExit:
        return False
    return True


def test_two_nodes_of_two_ranks(run_ranks):
    assert "checks passed" in run_ranks(4, "node_first.py", "2", timeout=400)


def test_three_nodes_of_two_ranks_and_two_of_three(run_ranks):
    checks = ["methods", "one_plan", "few_layers", "resume"]
    for ranks_a_node in ("2", "3"):
        output = run_ranks(6, "node_first.py", ranks_a_node, *checks, timeout=400)
        assert "checks passed" in output


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ((4, 2), [(4, 2), (4, 1), (2, 1), (6, 3), (6, 2)]),
        ((4, 1), [(4, 2)]),
        ((6, 3), [(4, 2)]),
    ],
)
def test_what_was_not_sent_is_kept_on_other_nodes(run_ranks, tmp_path, saved, loaded):
    ranks, ranks_a_node = saved
    run_ranks(ranks, "node_resize.py", "save", str(ranks_a_node), str(tmp_path), timeout=200)
    for ranks, ranks_a_node in loaded:
        arguments = "load", str(ranks_a_node), str(tmp_path)
        assert "done" in run_ranks(ranks, "node_resize.py", *arguments, timeout=200)


@pytest.mark.parametrize("victim", range(4))
def test_a_killed_rank_is_a_peer_error_on_all_nodes(tmp_path, victim):
    ranks = 4
    method = ["quantize:4", "low_rank:2:min_ratio=1"][victim % 2]
    processes = [
        subprocess.Popen(
            [sys.executable, RANKS / "peer_killed.py", str(rank), str(ranks), tmp_path / "f",
             method, str(victim)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=on_loopback() | {"LOCAL_WORLD_SIZE": "2"},
        )
        for rank in range(ranks)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=100)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for rank, (process, output) in enumerate(zip(processes, outputs, strict=True)):
        if rank != victim:
            assert process.returncode == 0 and "survived" in output, output


@pytest.mark.skipif(not may_make_nodes(), reason="needs root, to make a network")
@pytest.mark.parametrize("ranks_a_node", [2, 4])
def test_a_node_sends_what_one_rank_would_send(ranks_a_node):
    """As the interface counts it; the ranks compare their averages."""
    from benchmarks.nodes import LARGEST_SHARE_OF_BYTES, run_nodes

    methods = ["quantize:4", "topk:0.01"]
    alone = run_nodes(None, 1, methods, ["flat"])
    nodes = run_nodes(None, ranks_a_node, methods, ["auto"])
    for one, several in zip(alone, nodes, strict=True):
        assert several.node_first and not one.node_first
        assert several.bytes_of_a_node <= LARGEST_SHARE_OF_BYTES * one.bytes_of_a_node, several
