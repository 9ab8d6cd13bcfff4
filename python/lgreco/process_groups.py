"""The process groups through which compressed sums travel."""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from lgreco import _core
from lgreco.errors import ConfigError, Error, MismatchError, PeerError
from lgreco.nodes import agreed, kind_of, proposed
from lgreco.torch_internals import backend_of, group_over, timeout_of


def timeout_seconds_of(group: dist.ProcessGroup | None) -> float:
    """Of the group's own operations. Raises ConfigError as `own_groups` does."""
    return min(max(timeout_of(_members(group)), 1e-3), _core.LONGEST_TIMEOUT_SECONDS)


_own: weakref.WeakSet[dist.ProcessGroup] = weakref.WeakSet()
_world_of_the_parent: dist.ProcessGroup | None = None


def _after_fork_in_child() -> None:
    """Threads and connections are the parent's: nobody may take groups apart here, not even the end
    of the interpreter, nor make new ones over the default group, whose store is the parent's."""
    global _world_of_the_parent
    groups = list(_own)
    _world_of_the_parent = _world()
    if _world_of_the_parent is not None:
        groups.append(_world_of_the_parent)
    for group in groups:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))  # never to be freed


if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_after_fork_in_child)


@dataclass(frozen=True)
class OwnGroups:
    """Gloo groups that nobody else has."""

    lanes: list[dist.ProcessGroup]  # of the ranks that average
    agreement: dist.ProcessGroup | None = None  # of those that commit, where these are more
    node: dist.ProcessGroup | None = None  # of this rank's node, when gradients are summed there
    device_node: dist.ProcessGroup | None = None  # the same, where its accelerators sum themselves
    node_of: Sequence[int] = ()  # then: of each rank of the agreement


def own_groups(
    group: dist.ProcessGroup | None,
    lanes: int,
    timeout_seconds: float,
    node: Any = None,
    devices: Iterable[torch.device] = (),
) -> OwnGroups:
    """A group for each lane over the members of `group` or, node first (`node` as in `compress()`),
    over those of equal place in their nodes, with the groups that this needs for gradients on
    `devices`.

    Collective. Raises ConfigError without a group or a torch.distributed that this process
    initialised, and for groups that are no nodes of equal size, MismatchError when the ranks differ
    in `lanes` or in what kind of `node` they ask for, PeerError when one does not call it within
    the timeout.
    """
    members = _members(group)
    everybody = list(range(members.size()))
    try:
        first = _own_group(members, everybody, timeout_seconds)
        proposal = proposed(node, members)
        padding = [-1] * (len(everybody) - len(proposal))
        said = gathered([lanes, kind_of(node), *proposal, *padding], first)
        for rank, (other, *_) in enumerate(said):  # a second group needs all ranks
            if other != said[0][0]:
                raise MismatchError(
                    f"[compress] the ranks differ in lanes: rank 0 has '{said[0][0]}', "
                    f"rank {rank} has '{other}'; call it with equal arguments on every rank"
                )
        nodes = agreed(
            [kind for _, kind, *_ in said], [[r for r in row if r >= 0] for _, _, *row in said]
        )
        if nodes is None:
            more = (_own_group(members, everybody, timeout_seconds) for _ in range(lanes - 1))
            return OwnGroups([first, *more])
        here = next(ranks for ranks in nodes if members.rank() in ranks)
        place = here.index(members.rank())
        across = [ranks[place] for ranks in nodes]
        return OwnGroups(
            lanes=[_own_group(members, across, timeout_seconds) for _ in range(lanes)],
            agreement=first,
            node=_own_group(members, here, timeout_seconds),
            device_node=_device_group(members, here, devices, timeout_seconds),
            node_of=[
                number for rank in everybody for number, ranks in enumerate(nodes) if rank in ranks
            ],
        )
    except Error:
        raise
    except RuntimeError as error:
        raise PeerError(
            f"[compress] no process group of all ranks within {timeout_seconds} s; "
            f"every rank must call this: {error}"
        ) from error


def group_of_one() -> dist.ProcessGroup:
    """Of this process alone, whether or not torch.distributed is initialised."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    with _threads_that_do_not_preempt():
        gloo = dist.ProcessGroupGloo(store, 0, 1, timeout=timedelta(minutes=30))
    own = group_over(store, 0, 1, gloo)
    _own.add(own)
    return own


def _device_group(
    members: dist.ProcessGroup,
    ranks: list[int],
    devices: Iterable[torch.device],
    timeout_seconds: float,
) -> dist.ProcessGroup | None:
    """Of these `ranks` of `members`, by the backends that these have; None where all gradients are
    on the CPU, or Gloo is what sums those of some accelerator, by way of the host.

    It lives as long as the default group.
    """
    kinds = {device.type for device in devices} - {"cpu"}
    if not kinds or any(backend_of(members, kind) in (None, "gloo") for kind in kinds):
        return None
    of_world = dist.get_process_group_ranks(members)
    made: dist.ProcessGroup = dist.new_group(
        [of_world[rank] for rank in ranks],
        timeout=timedelta(seconds=timeout_seconds),
        backend=dist.get_backend_config(members),
        use_local_synchronization=True,
    )
    return made


def gathered(numbers: list[int], group: dist.ProcessGroup) -> list[list[int]]:
    """Of each rank; as many from everybody."""
    mine = torch.tensor(numbers, dtype=torch.int64, device="cpu")  # whatever the defaults are
    everybody = [torch.zeros_like(mine) for _ in range(group.size())]
    group.allgather([everybody], [mine]).wait()
    return [one.tolist() for one in everybody]


def _world() -> dist.ProcessGroup | None:
    """The default group, if there is one."""
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None


def _members(group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    """`group`, or the default one."""
    world = _world()
    if world is not None and world is _world_of_the_parent:
        raise ConfigError(
            "[compress] torch.distributed was initialised in another process: a forked child "
            "cannot use its parent's connections; initialise it in the process that uses it"
        )
    members = world if group is None else group
    if members is None:
        raise ConfigError(
            "[compress] torch.distributed is not initialised; "
            "call torch.distributed.init_process_group() first"
        )
    return members


def _own_group(
    members: dist.ProcessGroup, ranks: list[int], timeout_seconds: float
) -> dist.ProcessGroup:
    """A group of these `ranks` of `members`, which ends with its last user, unlike those of
    `dist.new_group()`. All members make one at the same time, of these or of other ranks.

    Those live as long as the default group. Destroying them lets PyTorch use their names again, and
    with a name the stale addresses that the store has under it.
    """
    store = members.get_group_store()
    number = store.add(f"lgreco/made by {members.rank()}", 1)  # every rank has made as many
    name = f"lgreco/{number} of {ranks[0]}"
    store = dist.PrefixStore(name, store)  # type: ignore[attr-defined]
    rank, size = ranks.index(members.rank()), len(ranks)
    with _threads_that_do_not_preempt():
        gloo = dist.ProcessGroupGloo(store, rank, size, timeout=timedelta(seconds=timeout_seconds))
    own = group_over(store, rank, size, gloo)
    _own.add(own)
    return own


@contextlib.contextmanager
def _threads_that_do_not_preempt() -> Iterator[None]:
    """Threads that start in the block get a processor when it is their turn, and not by taking it
    from the thread that runs: on Linux, the policy SCHED_BATCH.

    Gloo's thread spins while another thread, such as a lane's, holds a connection's lock. Having
    preempted that one, it spins for milliseconds, until the scheduler changes its mind: where every
    core computes, several times a step.
    """
    changed = False
    with contextlib.suppress(AttributeError, OSError):  # not on this system, or not in this sandbox
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            changed = True
    try:
        yield
    finally:
        if changed:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
