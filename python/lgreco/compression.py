"""What compresses one model on one rank."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from lgreco import _torch
from lgreco.arguments import require_number, shown
from lgreco.counters import interval, with_ratio
from lgreco.errors import ConfigError, Error, PeerError
from lgreco.files import as_path, write_whole_file
from lgreco.logging_to import Logs
from lgreco.methods import Level
from lgreco.methods import method as as_method
from lgreco.nodes import owners_of
from lgreco.plan import Plan
from lgreco.policies import Accordion, Policy, checked_policy
from lgreco.process_groups import own_groups, timeout_seconds_of
from lgreco.same_parameters import require_same_parameters
from lgreco.savings import Savings
from lgreco.settings import Settings, engine_settings

STATE_FORMAT = 2

_WARNINGS = {
    "unapplied_steps": "two steps were averaged, and no parameter changed in between. Error "
    "feedback takes for granted that each average is applied once: say discard_last_step() when a "
    "step is skipped, and average passes whose gradient is not applied in `with "
    "compression.paused():`. "
    "Harmless when gradients accumulate over several synchronised passes, or the learning rate is "
    "0. Counted in stats()['unapplied_steps']",
    "large_residual_steps": "the residual of a layer is more than 100 times its gradient: averages "
    "that were not applied, or a level that sends too little. Counted in "
    "stats()['large_residual_steps']",
    "dropped_residuals": "a residual was too large for its layer's type, and was dropped: what it "
    "held is lost. Pass grad_scaler= when the loss is scaled. Counted in "
    "stats()['dropped_residuals']",
}


def shape_only(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor that is looked at for its shape and type alone: with the memory of one element."""
    one = torch.empty((), dtype=dtype, device="cpu")  # whatever the program's defaults are
    return one.expand(tuple(shape))


class Compression:
    """What compresses one model on this rank: its plan, its counters, its state.

    Not thread-safe towards the training loop: call between steps. `plan`, `stats` and `state_dict`
    wait for what is in flight.
    """

    def __init__(
        self,
        layers: Sequence[tuple[str, torch.Tensor]],
        method: Level,
        policy: Policy | None,
        settings: Settings,
        *,
        process_group: dist.ProcessGroup | None,
        layers_are_parameters: bool,
        caller_settings: Mapping[str, object] | None = None,
        agreement_group: dist.ProcessGroup | None = None,
        layers_elsewhere: Mapping[str, int] | None = None,
        equal_parameters: Sequence[tuple[str, torch.Tensor]] = (),
        node: Any = None,
    ) -> None:
        """`agreement_group`: the ranks that commit and plan together, when these are more than
        those of `process_group`, with the layers that only they have, and the bytes of their
        gradients. `equal_parameters`: what the ranks of `process_group` must hold alike; by the
        same names on all ranks. `node`: as in `compress()`; of the `layers` this rank may then own
        some only."""
        reference = as_method(method)
        if not layers:
            raise ConfigError("[compress] there is no layer to synchronise")
        self._policy = checked_policy(policy)
        names = [name for name, _ in layers]
        elsewhere = layers_elsewhere or {}
        policy_settings = self._policy.settings([*names, *elsewhere], reference)
        timeout = settings["timeout"]
        if timeout is None:
            timeout = timeout_seconds_of(process_group)
        self._process_group = process_group
        arguments: dict[str, Any] = {
            "layers": list(layers),
            "method": str(reference),
            "policy": policy_settings,
            "settings": engine_settings(settings, float(timeout))
            | {"caller_settings": [(n, str(v)) for n, v in (caller_settings or {}).items()]},
        }
        _torch.check_arguments(**arguments)  # before anything is asked of the other ranks
        groups = own_groups(
            process_group,
            settings["lanes"],
            timeout,
            node,
            devices={layer.device for _, layer in layers},
        )
        agreement = groups.agreement
        if agreement_group is not None:
            (agreement,) = own_groups(agreement_group, 1, timeout).lanes
        owners = [0] * len(layers)
        if groups.node is not None:
            owners = owners_of([layer.nbytes for _, layer in layers], groups.node.size())
        self._engine = _torch.Aggregator(
            **arguments,
            groups=groups.lanes,
            agreement=agreement,
            node=groups.node,
            device_node=groups.device_node,
            nodes=list(groups.node_of),
            owners=owners,
            layers_are_parameters=layers_are_parameters,
        )
        own_place = 0 if groups.node is None else groups.node.rank()
        self._layers = {  # the shapes of those that this rank owns
            name: tuple(layer.shape)
            for (name, layer), owner in zip(layers, owners, strict=True)
            if owner == own_place
        }
        if equal_parameters:
            require_same_parameters(equal_parameters, groups.lanes[0], agreement or groups.lanes[0])
        self._savings: Savings | None = None
        engine = self._engine
        if engine.size() > 1:
            self._savings = Savings(
                self._policy.first_level(reference),
                sum(layer.nbytes for _, layer in layers) + sum(elsewhere.values()),
                first_step=settings["start"],
                is_measurable=groups.node is None,
                stats=engine.stats,
                plan_bytes=lambda: Plan.from_dict(engine.plan()).bytes,
            )

        self._shapes = {name: list(layer.shape) for name, layer in layers}
        self._settings = {
            "method": str(reference),
            "policy": repr(self._policy),
            "seed": settings["seed"],
        }
        self._logs = Logs()
        self._grad_scaler: Any = settings["grad_scaler"]
        self._grad_scale: float | None = None  # as the scaler said
        self._warned: set[str] = set()
        self._open_pauses = 0
        self._is_paused = False  # as the engine was told

    @property
    def plan(self) -> Plan:
        """The plan of the coming step.

        With `keep_previous=True` a new plan comes when that step begins, and does not show before.
        """
        return Plan.from_dict(self._engine.plan())

    def stats(self, since: Mapping[str, Any] | None = None, *, wait: bool = True) -> dict[str, Any]:
        """Counters of this rank: bytes as a network interface counts them, times in seconds.

        `plan_failure` says why the newest of the `plan_failures` happened.

        `ratio` is `dense_bytes / bytes_sent`, where `dense_bytes` is what an uncompressed ring
        all-reduce of the same gradients sends.

        Args:
            since: what this gave before: only what was added since then, with the ratio of that.
                ConfigError for anything else, such as figures of another run.
            wait: for the step in flight and what follows it. False: what has ended, at once, and
                without `residual_norm`, which takes a pass over all residuals.
        """
        stats = with_ratio(self._engine.stats() if wait else self._latest())
        return stats if since is None else interval(stats, since)

    def _latest(self) -> dict[str, Any]:
        stats = self._engine.latest()
        del stats["plan_version"], stats["residual_norm"]
        return stats

    def log_to(self, writer: Any, *, every: int = 100, run_id: str | None = None) -> None:
        """Write figures to an experiment tracker every `every` steps, from now on, by itself.

        Scalars, by committed steps: `lgreco/ratio` and `lgreco/per_step/...` (bytes_sent, encode_s,
        decode_s, check_s, wait_s, ...), means since the time before, and `lgreco/...` (plans,
        overflow_steps, ...), totals. They are read before a forward pass (`Aggregator`: before the
        next average), and never wait for a step; what the writer takes, the training loop takes,
        and what it raises comes out there.

        Args:
            writer: a `torch.utils.tensorboard.SummaryWriter`; a wandb run, or the module wandb
                (x axis "lgreco/step"); the module mlflow, or a logger of Lightning's; an
                MlflowClient, with its `run_id`; an `lgreco.RunLog`. None: nothing, so that each
                rank may pass what it has. Further ones are written to as well.

        Raises ConfigError on anything else.
        """
        self._logs.add(writer, every, run_id, self._latest())

    @property
    def plan_version(self) -> int:
        """Of `plan`, without waiting: that of the steps that have ended by now."""
        return int(self._engine.latest()["plan_version"])

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of the layers, by name."""
        return self._shapes

    @property
    def ranks(self) -> int:
        """How many average together."""
        return self._members().size()

    @property
    def settings(self) -> dict[str, object]:
        """What decides on the results: "method", "policy", "seed"."""
        return dict(self._settings)

    def __repr__(self) -> str:
        elements = sum(math.prod(shape) for shape in self._shapes.values())
        try:
            where = f"rank {self._engine.rank()} of {self._engine.size()}, "
            where += f"step {self._engine.latest()['steps']}"
        except Error:  # a debugger must be able to show it
            where = "of another process"
        return (
            f"<lgreco.{type(self).__name__}: {self._settings['method']}, "
            f"{self._settings['policy']}, layers: {len(self._shapes)}, elements: {elements:,}, "
            f"{where}>"
        )

    def memory(self) -> dict[str, int]:
        """Bytes that compression needs on this rank beyond the gradients, with the current plan.

        `residuals`, `factors`, `staging` (the messages of a step, and copies of gradients from
        accelerators), and `windows` (what plans and Accordion's decisions are made from). All of
        it is host memory. With `keep_previous=True` what that keeps is counted, too.
        """
        return self._engine.memory()

    @property
    def micro_batches(self) -> int:
        """How many batches to accumulate (under `no_sync()`) before the coming synchronisation.

        What `Accordion(micro_batches=...)` decided; 1 under other policies. The same on every rank.
        With `keep_previous=True` a decision comes when the next step begins: it counts one
        synchronisation later.
        """
        if not isinstance(self._policy, Accordion):
            return 1
        critical, stable = self._policy.micro_batches
        return critical if self._engine.in_critical_regime() else stable

    def on_lr_change(self, old: float, new: float) -> None:
        """Tell Accordion that the learning rate changes from `old` to `new` with the coming step.

        A decay means low compression after that step, until the next decision. Call it on every
        rank, for the steps of a step-wise schedule: a rate that decays in every step would keep
        compression low for ever. Without effect under other policies. Waits for the step in flight;
        raises ConfigError in the middle of a step, and unless both rates are finite and not
        negative. On one rank only: the coming step raises MismatchError on all of them.
        """
        self._engine.on_learning_rate_change(
            require_number("[compress] old", old), require_number("[compress] new", new)
        )

    def set_grad_scale(self, scale: float) -> None:
        """Gradients are multiplied by `scale` from the next step on; call it on every rank.

        Not needed with `grad_scaler=`. The first call says what the scale has been all along; later
        ones convert what was kept, exactly for powers of two. Raises ConfigError unless `scale` is
        positive and finite. On one rank only: the next step raises MismatchError on all of them.
        """
        self._engine.set_grad_scale(require_number("[compress] scale", scale))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Passes in the block average exactly and dense, and change nothing that is kept.

        For passes whose averaged gradient is not applied: a generator's pass through the
        discriminator, the first pass of SAM. No residual is added or kept, no step is counted, no
        plan is made. Where the average is not needed at all, `ddp.no_sync()` sends nothing. Enter
        it on every rank for the same passes; raises ConfigError in the middle of a step. On one
        rank only, where anything is compressed: the pass raises PeerError on all of them at the
        timeout, and the run ends. Blocks may be nested: the outermost counts. When one ends by an
        exception in the middle of a step, compression goes on with the next pass.
        """
        self._engine.pause(True)
        self._is_paused = True
        self._open_pauses += 1
        try:
            yield
        except BaseException:
            self._open_pauses -= 1
            with contextlib.suppress(Error):  # what happened in the block counts
                self._unpause()
            raise
        self._open_pauses -= 1
        self._unpause()

    def _unpause(self) -> None:
        """When no block is open. In the middle of a step it fails, and is due before the next."""
        if self._is_paused and not self._open_pauses:
            self._engine.pause(False)
            self._is_paused = False

    def discard_last_step(self) -> bool:
        """The averages of the last step were not applied: take its state back, exactly.

        For skipped steps (a spike, a clipping rule). Call it on every rank, before the next pass.
        Returns False, and does nothing, when the step left no trace anyway: it overflowed, failed,
        or was taken back already. Raises ConfigError without `keep_previous=True`. On one rank
        only: the next step raises MismatchError on all of them or, when a plan or a decision is
        due, PeerError at the timeout.
        """
        return self._engine.discard_last_step()

    def reset(self) -> None:
        """Forget what was not sent yet, warm factors, and what the next plan is made from.

        When parameters were replaced (another checkpoint, averaged weights) without the state that
        belongs to them. The plan stays. Call it on every rank before the same step. On one rank
        only: that step raises MismatchError on all of them or, with `keep_previous=True` when a
        plan or a decision is due, PeerError at the timeout.
        """
        self._engine.reset()

    def _before_pass(self) -> None:
        """Called by front ends before each pass: the loss's scale, and what there is to say."""
        self._unpause()
        if self._grad_scaler is not None:
            scale = float(self._grad_scaler.get_scale())
            if scale != self._grad_scale:
                self._engine.set_grad_scale(scale)
                self._grad_scale = scale
        if self._savings is not None:
            self._savings.before_pass()
        self._logs.before_pass(self._latest)
        for what, count in self._engine.notices().items():
            if count and what not in self._warned:
                self._warned.add(what)
                warnings.warn(f"[lgreco] {_WARNINGS[what]}.", RuntimeWarning, stacklevel=3)

    @contextlib.contextmanager
    def trace(self, path: str | Path) -> Iterator[None]:
        """Record what this rank's threads do in the block, as Chrome-trace JSON in `path`.

        Ranks that trace at once need paths of their own. Open one in chrome://tracing or
        https://ui.perfetto.dev. Tracks: backward, encode, lane A, lane B, planner.
        """
        path = as_path(path)
        self._engine.start_trace()
        try:
            yield
        finally:
            events = self._engine.stop_trace()
            shared = {"ph": "X", "pid": dist.get_rank() if dist.is_initialized() else 0}
            write_whole_file(path, json.dumps({"traceEvents": [shared | e for e in events]}))

    def state_dict(self) -> dict[str, object]:
        """Everything this rank needs to go on bit for bit: tensors and numbers by layer name.

        Each rank saves its own. `torch.load(..., weights_only=True)` reads it.
        """
        return {"format": STATE_FORMAT, **self._engine.state()}

    def portable_state_dict(self) -> dict[str, object]:
        """The state of all ranks together: the same on every rank, one model's size, and loaded by
        any number of ranks. Collective, between steps.

        For checkpoints that rank 0 writes, and frameworks that know no others. In the place of what
        each rank has not sent yet it has the mean over the ranks (fp32, the same bits everywhere),
        so that nothing of that is lost but how it is spread over the ranks; the rest is what all
        have alike. Counters are rank 0's. `torch.load(..., weights_only=True)` reads it.

        Node first, it is that of a run of as many ranks as there are nodes, and loads with nodes
        and without; with `compress_replicas`, it has all shards, and loads where these are as many,
        however many replicas there are.

        Raises MismatchError on all ranks after a call that one rank alone made, ConfigError in the
        middle of a step, PeerError, which ends the run, when a rank does not take part.
        """
        return {"format": STATE_FORMAT, **self._engine.portable_state()}

    def gathered_state_dict(self) -> list[dict[str, object]] | None:
        """The states of all ranks of the process group, in their order, on its rank 0; None on the
        others. Collective.

        For checkpoints that one rank writes; `load_state_dict` takes the list on every rank. It
        takes the memory of all states on rank 0. Raises PeerError when a rank does not take part
        within the timeout of the process group.
        """
        own = self.state_dict()
        rank, size = self._members().rank(), self._members().size()
        if size == 1:
            return [own]
        states: list[Any] | None = [None] * size if rank == 0 else None
        try:
            dist.gather_object(own, states, group=self._process_group, group_dst=0)
        except RuntimeError as error:
            raise PeerError(
                "[state] the ranks' states could not be gathered; every rank must call this: "
                f"{error}"
            ) from error
        return states

    def load_state_dict(
        self,
        state: Mapping[str, object] | Sequence[Mapping[str, object]],
        *,
        world_size_change: str = "fail",
        step: int | None = None,
    ) -> None:
        """Collective, and all or nothing: when anything is wrong on any rank, all ranks raise
        StateError, and their live states are untouched.

        Args:
            state: what `state_dict()` gave on this rank; a list of all ranks' states, as
                `gathered_state_dict()` gives it: of as many ranks as now each takes its own; or
                what `portable_state_dict()` gave: every rank, of whatever number, starts with its
                mean residual.
            world_size_change: what to do when the run had another number of ranks.
                "fail": refuse. "mean": every rank starts with the mean of all old residuals, so
                that nothing of what was not sent yet is lost; needs the list. "keep": nothing is
                lost, either, but every rank keeps its own, times new / old number of ranks (it is
                an addend of a mean over more or fewer then); new ranks start with zero, and what
                ranks that are gone have not sent is shared out evenly; needs the list. "reset":
                residuals start at zero, and `state` may be that of any old rank (node first: the
                list). Of a portable state only "reset" makes a difference.
            step: how many steps the state must have committed (`state["step"]`): pass it when
                another part of the checkpoint knows.

        Raises StateError on another rank's state, another world size, another step, another model,
        another format, a damaged state; PeerError when a rank does not take part.
        """
        ways = ("fail", "mean", "keep", "reset")
        if not isinstance(world_size_change, str) or world_size_change not in ways:
            raise ConfigError(
                f"[state] world_size_change is {shown(world_size_change)}; use 'fail', 'mean', "
                "'keep' or 'reset'"
            )
        states: list[Any] = list(state) if isinstance(state, list | tuple) else [state]
        change = world_size_change
        if isinstance(state, list | tuple) and (own := self._own_of(states)) is not None:
            states = list(own)
            change = "fail"
        problem = _problem_with(states, change, step)
        dicts = [] if problem else [dict(one) for one in states]
        self._engine.load_state(dicts[:1] if change == "fail" else dicts, change, problem)
        self._grad_scale = None  # the state has its own
        self._logs.restart(self._latest())

    def _own_of(self, states: Sequence[object]) -> Sequence[Mapping[str, object]] | None:
        """This rank's, if there is one, when they are those of as many ranks as now, with as many
        nodes; None when they are not."""
        rank, size = self._engine.rank(), self._engine.size()
        if len(states) != self._members().size():
            return None
        of_size = [one for one in states if isinstance(one, Mapping) and _is(one.get("size"), size)]
        if len(of_size) != len(states):
            return None
        candidates = [one for one in of_size if _is(one.get("rank"), rank)]
        same = [one for one in candidates if _names(one.get("layers")) == set(self._layers)]
        return (same or candidates)[:1]

    def _members(self) -> dist.ProcessGroup:
        members = dist.group.WORLD if self._process_group is None else self._process_group
        assert members is not None
        return members

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "[compress] a Compression belongs to this process and its peers, and can be neither "
            "copied nor saved; save compression.state_dict() and load it with load_state_dict()"
        )


def _is(found: object, expected: int) -> bool:
    """Also of what compares in other ways, such as tensors."""
    return type(found) is int and type(expected) is int and found == expected


def _names(layers: object) -> set[object]:
    return set(layers) if isinstance(layers, Mapping) else set()


def _problem_with(states: Sequence[object], world_size_change: str, step: int | None) -> str:
    """Why these cannot be loaded, if so: the other ranks must be told, too."""
    if not states:
        return "[state] there is no state of this rank; pass what state_dict() gave on it"
    if len(states) > 1 and world_size_change == "fail":
        return (
            f"[state] {len(states)} states were given, which are not those of as many ranks as "
            "now; pass this rank's own, or say world_size_change='mean', 'keep' or 'reset'"
        )
    for state in states:
        found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        if not isinstance(state, Mapping) or not _is(found, STATE_FORMAT):
            return (
                f"[state] format is {shown(found)}, this version reads {STATE_FORMAT}; "
                "pass what state_dict() returned"
            )
        if step is not None and not _is(state.get("step"), step):
            return (
                f"[state] saved after step {shown(state.get('step'))}, where step {shown(step)} is "
                "wanted; load "
                "all parts of one checkpoint"
            )
    return ""
