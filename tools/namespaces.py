"""Networks of this machine's own: processes on a private loopback, or on both ends of a slow link.

Needs iproute2, and user namespaces or, for links, root. Everything made here is removed again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = "29777"


def require_namespaces() -> None:
    if not _succeeds(["unshare", "--net", "ip", "link", "set", "lo", "up"]):
        sys.exit("This needs root and iproute2 (apt-get install iproute2), to make a network.")


def on_private_loopback(command: Sequence[str]) -> list[str]:
    """The command that runs `command` where nobody else uses the loopback interface."""
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
    return ["unshare", "--map-root-user", "--net", *inside]


def has_private_loopback() -> bool:
    """Whether `on_private_loopback` works here: where user namespaces may be made."""
    return _succeeds(on_private_loopback(["true"]))


@contextlib.contextmanager
def linked_namespaces(megabits: float | None) -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a link of that bandwidth (None: unlimited) each way.

    Yields their names; processes in the first have ADDRESSES[0], in the second ADDRESSES[1].
    """
    names = tuple(f"lgreco-{os.getpid()}-{side}" for side in "ab")
    links = ("veth0", "veth1")
    try:
        for name in names:
            _run("ip", "netns", "add", name)
        _run("ip", "link", "add", links[0], "netns", names[0], "type", "veth",
             "peer", "name", links[1], "netns", names[1])  # fmt: skip
        for name, link, address in zip(names, links, ADDRESSES, strict=True):
            inside = ("ip", "netns", "exec", name)
            _run(*inside, "ip", "link", "set", "lo", "up")
            _run(*inside, "ip", "addr", "add", f"{address}/24", "dev", link)
            _run(*inside, "ip", "link", "set", link, "up")
            if megabits is not None:
                _limit(inside, link, megabits)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _limit(inside: tuple[str, ...], link: str, megabits: float) -> None:
    # A bucket of 2 ms at full rate, and a queue of 50 ms: about what a switch has.
    burst = max(3_000, int(megabits * 1e6 / 8 * 0.002))
    _run(*inside, "tc", "qdisc", "add", "dev", link, "root", "tbf",
         "rate", f"{megabits}mbit", "burst", str(burst), "latency", "50ms")  # fmt: skip


def run_on_link(
    names: tuple[str, str], command: Sequence[str], timeout: float = 600, ranks_a_node: int = 1
) -> str:
    """Run `command` as so many ranks in each namespace, the first ones in the first; the output of
    rank 0. Raises RuntimeError when a rank fails; ends only what it started."""
    processes = []
    for rank in range(ranks_a_node * len(names)):
        node, place = divmod(rank, ranks_a_node)
        name = names[node]
        # One rank a node: the two share the cores of this machine, and are one node to torchrun.
        environment = os.environ | {
            "RANK": str(rank), "WORLD_SIZE": str(ranks_a_node * len(names)),
            "LOCAL_RANK": str(place if ranks_a_node > 1 else rank),
            "LOCAL_WORLD_SIZE": str(max(ranks_a_node, 2)),
            "MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": PORT,
            "GLOO_SOCKET_IFNAME": f"veth{node}", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        processes.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, *command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if any(process.returncode != 0 for process in processes):
        raise RuntimeError("\n".join(f"rank {r}:\n{output}" for r, output in enumerate(outputs)))
    return outputs[0]


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
