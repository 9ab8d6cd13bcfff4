"""Local steps with an outer optimizer: ranks train alone and, now and then, average how far they
went, compressed (DiLoCo, arXiv 2311.08105; fragments: Streaming DiLoCo, arXiv 2501.18512)."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from lgreco import _torch
from lgreco.arguments import require_number, require_whole, shown
from lgreco.compression import Compression
from lgreco.counters import interval
from lgreco.errors import ConfigError, PeerError
from lgreco.methods import Level
from lgreco.nodes import owners_of
from lgreco.plan import Plan
from lgreco.policies import Accordion, LGreCo, Policy
from lgreco.process_groups import own_groups, timeout_seconds_of
from lgreco.settings import (
    OuterStepSettingsKeywords,
    Settings,
    checked_settings,
    engine_settings,
    takes_settings,
)
from lgreco.torch_internals import own_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

STATE_FORMAT = 1


class OuterStep:
    """Averages what ranks have trained alone, and moves all of them by an outer optimizer::

        outer = lgreco.OuterStep(model, lgreco.Quantize(bits=4), every=100)
        for batch in batches:  # each rank its own
            loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            outer.step()  # a synchronisation in one of 100 calls

    The outer parameters are where all ranks were together last; they and the outer momentum are
    kept here, in float32 on the CPU. In a synchronisation each rank says how far its local steps
    went: outer parameters - parameters, the pseudo-gradient. It is averaged, compressed and with
    error feedback, the outer optimizer (SGD with Nesterov momentum) moves the outer parameters by
    the average, and every rank's parameters become these. Then all ranks hold the same bits.

    The inner optimizer is the caller's and stays as it is, whatever it is; so do buffers, such as
    the statistics of batch norms, which each rank has of its own data.

    When a pseudo-gradient is not finite on some rank, the outer step is skipped on all of them:
    the outer parameters and the momentum stay, and parameters become the outer ones (on a rank
    whose parameters are not finite, all of them). It is counted in `stats()["overflow_steps"]`.

    Not thread-safe: call it between steps, on every rank alike.
    """

    @takes_settings(OuterStepSettingsKeywords)
    def __init__(
        self,
        model: nn.Module | Mapping[str, torch.Tensor],
        method: Level,
        policy: Policy | None = None,
        *,
        every: int,
        lr: float = 0.7,
        momentum: float = 0.9,
        nesterov: bool = True,
        fragments: int = 1,
        process_group: dist.ProcessGroup | None = None,
        **settings: Unpack[OuterStepSettingsKeywords],
    ) -> None:
        """Collective, with equal arguments on every rank. All start as DDP has them start: with
        what rank 0 has, buffers and frozen parameters of a module included.

        Args:
            model: the parameters that are trained, of float32, bfloat16 or float16, on the CPU or
                on accelerators: those of a module that require a gradient now, or tensors by name.
            method: the reference level, as in `compress()`, of pseudo-gradients.
            policy: as in `compress()`. Its steps are synchronisations, with fragments of one
                fragment each.
            every: calls of `step()` between synchronisations of a parameter: local steps.
            lr, momentum, nesterov: of the outer optimizer. `lr` may be changed between steps, on
                every rank alike.
            fragments: parts of the model, of about the same size, that are synchronised at
                different times, `every / fragments` local steps apart.
            process_group: the ranks that train; its own Gloo groups are made from it (None: all
                there are).
            {settings}

        Raises:
            ConfigError: an argument out of range, no parameter to train, an unsupported dtype or
                device, a parameter without memory of its own, no process group.
            MismatchError: the ranks' arguments or models differ; the same message on every rank.
            PeerError: a rank did not call it within the timeout.
        """
        checked = checked_settings("OuterStep()", settings, OuterStepSettingsKeywords)
        self._module = model if isinstance(model, nn.Module) else None
        self._parameters = _trained(model)
        _check(every, lr, momentum, nesterov, fragments, policy, self._parameters, checked)
        self.every = every
        self.lr = float(lr)
        self.momentum = float(momentum)
        self.nesterov = nesterov
        self._outer = {name: _host_copy(p) for name, p in self._parameters.items()}
        self._momentum = {name: torch.zeros_like(p) for name, p in self._outer.items() if momentum}
        self._fragments: list[list[str]] = [[] for _ in range(fragments)]
        owners = owners_of([outer.nbytes for outer in self._outer.values()], fragments)
        for name, owner in zip(self._outer, owners, strict=True):
            self._fragments[owner].append(name)
        self._steps = 0
        self._sent_at = [0] * fragments  # the local step at which each was synchronised last

        self._process_group = process_group
        self._timeout = checked["timeout"]
        given = {"every": every, "lr": self.lr, "momentum": self.momentum, "nesterov": nesterov}
        self.compression: Compression = _OuterCompression(
            list(self._outer.items()),
            method,
            policy,
            checked,
            process_group=process_group,
            layers_are_parameters=True,
            caller_settings=given | {"fragments": fragments} | _described(self._rest()),
        )
        """What compresses: its plan, statistics, memory and trace. Its steps are
        synchronisations."""
        self._start_alike()

    @property
    def plan(self) -> Plan:
        """The plan of the coming synchronisation."""
        return self.compression.plan

    def stats(self, since: Mapping[str, Any] | None = None, *, wait: bool = True) -> dict[str, Any]:
        """Counters of this rank, as `Compression.stats()`: `steps` are synchronisations of which
        the outer step was made, `overflow_steps` those of which it was skipped. `local_steps` are
        calls of `step()`.

        `dense_bytes` is of the same number of uncompressed synchronisations.
        """
        now = self.compression.stats(wait=wait) | {"local_steps": self._steps}
        return now if since is None else interval(now, since)

    def memory(self) -> dict[str, int]:
        """Bytes of host memory: those of `Compression.memory()`, `outer_parameters`, `momentum`.

        A synchronisation needs one more float32 copy of what it sends.
        """
        return self.compression.memory() | {
            "outer_parameters": sum(outer.nbytes for outer in self._outer.values()),
            "momentum": sum(buffer.nbytes for buffer in self._momentum.values()),
        }

    def step(self) -> bool:
        """Call it after each step of the inner optimizer, on every rank as often. True when it
        synchronised (also when that was skipped).

        Collective when it synchronises. When it raises, parameters, outer parameters and momentum
        are what they were: the next synchronisation sends what this one would have. Raises
        ConfigError, on all ranks, when on some rank a parameter has another shape than it had, or
        one is trained that was not there, or frozen, before; PeerError, ProtocolError and
        MismatchError as a step of `compress()` does (docs/errors.md). The ranks' outer parameters
        are compared every `drift_check_every` synchronisations.
        """
        self._steps += 1
        for number, names in enumerate(self._fragments):
            # The last fragment's turn is the end of the interval.
            if (self._steps - (number + 1) * self.every // len(self._fragments)) % self.every == 0:
                self._synchronise(number, names)
                return True
        return False

    def flush(self) -> bool:
        """Synchronise now all that local steps have changed since it was synchronised last: at the
        end of training. False when there is nothing.

        Collective, as `step()`. It is an outer step like any other, of fewer local steps; the next
        one comes when it would have come anyway.
        """
        pending = [n for n, sent_at in enumerate(self._sent_at) if sent_at < self._steps]
        for number in pending:
            self._synchronise(number, self._fragments[number])
        return bool(pending)

    @contextlib.contextmanager
    def outer_parameters(self) -> Iterator[None]:
        """In the block the model has the outer parameters, and afterwards its own again: to
        evaluate or save what all ranks have in common. Not collective; do not train in it."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._take_over(own)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(own[name])

    def reset(self) -> None:
        """The model's parameters were replaced (other weights were loaded without a state): they
        are the outer ones now, on every rank those of rank 0. Collective.

        The momentum, and what was not sent yet, are forgotten; plan and counters stay.
        """
        self.compression.reset()
        for buffer in self._momentum.values():
            buffer.zero_()
        self._sent_at = [self._steps] * len(self._fragments)
        self._start_alike()

    def state_dict(self) -> dict[str, object]:
        """Everything this rank needs to go on bit for bit, but the model and the inner optimizer,
        which differ between the ranks, too: each rank saves its own.
        `torch.load(..., weights_only=True)` reads it."""
        return self._state(self.compression.state_dict(), is_of_all=False)

    def gathered_state_dict(self) -> dict[str, object] | None:
        """The state of all ranks, on rank 0 of the process group; None on the others. Collective.

        For checkpoints that one rank writes. Raises PeerError as
        `Compression.gathered_state_dict()`.
        """
        gathered = self.compression.gathered_state_dict()
        return None if gathered is None else self._state(gathered, is_of_all=True)

    def portable_state_dict(self) -> dict[str, object]:
        """The state of all ranks together, as `Compression.portable_state_dict()`: the same on
        every rank, of one model's size, and loaded by any number of ranks. Collective."""
        return self._state(self.compression.portable_state_dict(), is_of_all=True)

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        *,
        world_size_change: str = "fail",
        step: int | None = None,
    ) -> None:
        """Collective, and all or nothing: when anything is wrong on any rank, all ranks raise
        StateError, and nothing has changed.

        After a rank's own state, load its model and inner optimizer, too: the model's parameters
        stay as they are. A state of all ranks comes with one model for all, so that parameters
        become the outer ones: local steps since the last synchronisation are lost, and none are
        when it was saved after one (without fragments; with them, after `flush()`).

        Args:
            state: what `state_dict()` gave on this rank, or what `portable_state_dict()` or
                `gathered_state_dict()` gave, on every rank.
            world_size_change: as in `Compression.load_state_dict()`.
            step: how many local steps the state must have.

        Raises StateError on what is no such state, is damaged, or is of other parameters, other
        fragments, or another step; PeerError when a rank does not take part.
        """
        problem = self._problem_with(state, step)
        if problem:  # the other ranks must be told, too
            self.compression._engine.load_state([], "fail", problem)
        self.compression.load_state_dict(state["compression"], world_size_change=world_size_change)
        for live, saved in (
            (self._outer, state["parameters"]),
            (self._momentum, state["momentum"]),
        ):
            for name, tensor in live.items():
                tensor.copy_(saved[name])
        self._steps = state["local_steps"]
        self._sent_at = list(state["sent_at"])
        if state.get("is_of_all_ranks"):
            self._take_over(self._parameters)
            self._sent_at = [self._steps] * len(self._fragments)

    def __repr__(self) -> str:
        return (
            f"<lgreco.OuterStep: every {self.every} local steps, fragments: "
            f"{len(self._fragments)}, local step {self._steps}, {self.compression!r}>"
        )

    def _state(self, compression: object, *, is_of_all: bool) -> dict[str, object]:
        return {
            "format": STATE_FORMAT,
            "is_of_all_ranks": is_of_all,
            "local_steps": self._steps,
            "sent_at": list(self._sent_at),
            "parameters": {name: tensor.clone() for name, tensor in self._outer.items()},
            "momentum": {name: tensor.clone() for name, tensor in self._momentum.items()},
            "compression": compression,
        }

    def _problem_with(self, state: object, step: int | None) -> str:
        """Why it cannot be loaded, if so."""
        found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        if not isinstance(state, Mapping) or found != STATE_FORMAT:
            return (
                f"[state] format of the outer step is {shown(found)}, this version reads "
                f"{STATE_FORMAT}; pass what OuterStep.state_dict() returned"
            )
        sent_at = state.get("sent_at")
        numbers = [state.get("local_steps"), *(sent_at if isinstance(sent_at, list) else [None])]
        if not all(isinstance(one, int) for one in numbers) or "compression" not in state:
            return "[state] the outer step's state is not complete; pass what state_dict() returned"
        if step is not None and state["local_steps"] != step:
            return (
                f"[state] saved after {state['local_steps']} local steps, where {step} are wanted; "
                "load all parts of one checkpoint"
            )
        if len(state["sent_at"]) != len(self._fragments):
            return (
                f"[state] saved with fragments={len(state['sent_at'])}, and there are "
                f"{len(self._fragments)}; make the OuterStep as it was made"
            )
        for what, live in (("parameters", self._outer), ("momentum", self._momentum)):
            if _shapes(live) != _shapes(state.get(what)):
                return (
                    f"[state] the outer step's {what} are of another model, or of another "
                    "momentum=; make the OuterStep as it was made"
                )
        return ""

    def _synchronise(self, number: int, names: Sequence[str]) -> None:
        averages = {name: self._moved(name) for name in names}
        self.compression._before_pass()
        try:
            self.compression._engine.average_(averages | self._unknown())
        except ConfigError as error:
            if "[aggregator]" not in str(error):
                raise
            raise ConfigError(
                "[outer] the parameters are not those that the OuterStep was made with; make a new "
                f"one ({error})"
            ) from error
        is_finite = _all_finite(averages.values())  # the same bits, and decision, on every rank
        if is_finite:
            self._apply(averages)
            self._take_over(names)
        elif _all_finite(self._parameters.values()):
            self._take_over(names)
        else:
            # What is not finite spreads, in the next local step, to what is returned alone.
            self._take_over(self._parameters)
        self._sent_at[number] = self._steps
        if not is_finite:
            warnings.warn(
                "[outer] parameters of some rank were not finite: the outer step was skipped, and "
                "they are the outer ones again. The inner optimizer's state is as it was there. "
                "Counted in stats()['overflow_steps'].",
                RuntimeWarning,
                stacklevel=3,
            )

    def _moved(self, name: str) -> torch.Tensor:
        """How far this rank went: where all started, as the parameter's dtype has it, minus now."""
        parameter, outer = self._parameters[name], self._outer[name]
        now = _host_copy(parameter)
        if now.shape != outer.shape:
            return now  # which the average is refused for, on all ranks
        return torch.sub(outer.to(parameter.dtype).float(), now, out=now)

    def _unknown(self) -> dict[str, torch.Tensor]:
        """What is trained and not synchronised: no layer of the average has such a name."""
        if self._module is None:
            return {}
        known = {id(parameter) for parameter in self._parameters.values()}
        return {
            f"{own_name(name)} (added, unfrozen or replaced)": torch.empty(0)
            for name, parameter in self._module.named_parameters()
            if parameter.requires_grad and id(parameter) not in known
        }

    def _apply(self, averages: Mapping[str, torch.Tensor]) -> None:
        """As torch.optim.SGD does, but for the rounding of each product, which there depends on
        what instructions a rank's processor has."""
        for name, average in averages.items():
            change = average
            if self.momentum:
                velocity = self._momentum[name].mul_(self.momentum).add_(average)
                change = velocity.clone()
                if self.nesterov:
                    change.mul_(self.momentum).add_(average)
            self._outer[name].sub_(change.mul_(self.lr))

    def _take_over(self, names: Iterable[str]) -> None:
        with torch.no_grad():
            for name in names:
                self._parameters[name].copy_(self._outer[name])

    def _rest(self) -> dict[str, torch.Tensor]:
        """What else the module has: it starts alike, too, but is not synchronised."""
        if self._module is None:
            return {}
        trained = {id(parameter) for parameter in self._parameters.values()}
        everything = {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}
        return {own_name(n): t.detach() for n, t in everything.items() if id(t) not in trained}

    def _start_alike(self) -> None:
        """With what rank 0 has. Bytes, since Gloo has not every dtype."""
        timeout = self._timeout or timeout_seconds_of(self._process_group)
        (group,) = own_groups(self._process_group, 1, timeout).lanes
        for tensor in (*self._parameters.values(), *self._rest().values()):
            if tensor.numel() == 0:
                continue
            here = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            try:
                group.broadcast(here.view(-1).view(torch.uint8), 0).wait()
            except RuntimeError as error:
                raise PeerError(
                    f"[outer] rank 0's parameters did not arrive within {timeout} s: {error}"
                ) from error
            with torch.no_grad():
                tensor.copy_(here)
        for name, parameter in self._parameters.items():
            self._outer[name].copy_(parameter.detach())


class _OuterCompression(Compression):
    """Whose averages are applied, each once."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # The engine looks at a few numbers of the model, which may all be of other fragments.
        self._warned.add("unapplied_steps")


def _trained(model: object) -> dict[str, torch.Tensor]:
    if isinstance(model, nn.Module):
        return {own_name(n): p for n, p in model.named_parameters() if p.requires_grad}
    if not isinstance(model, Mapping):
        raise ConfigError(
            f"[outer] model is a {type(model).__name__}; give a module, or tensors by name such as "
            "dict(model.named_parameters())"
        )
    for name, tensor in model.items():
        if not isinstance(tensor, torch.Tensor):
            raise ConfigError(f"[outer] parameter '{name}' is {shown(tensor)}; give a tensor")
    return dict(model)


def _check(
    every: int,
    lr: float,
    momentum: float,
    nesterov: bool,
    fragments: int,
    policy: Policy | None,
    parameters: Mapping[str, torch.Tensor],
    settings: Settings,
) -> None:
    require_whole("[outer] every", every, least=1)
    require_whole("[outer] fragments", fragments, least=1)
    if not 0 < require_number("[outer] lr", lr) < math.inf:
        raise ConfigError(f"[outer] lr must be positive and finite, not {lr}")
    if not 0 <= require_number("[outer] momentum", momentum) < 1:
        raise ConfigError(f"[outer] momentum must be at least 0 and below 1, not {momentum}")
    if not isinstance(nesterov, bool):
        raise ConfigError(f"[outer] nesterov must be True or False, not {shown(nesterov)}")
    for name, parameter in parameters.items():
        strides = zip(parameter.shape, parameter.stride(), strict=True)
        if any(length > 1 and stride == 0 for length, stride in strides):
            raise ConfigError(
                f"[outer] parameter '{name}' has elements that share memory (expand()); give a "
                "copy: contiguous()"
            )
    most = min(every, max(1, sum(parameter.numel() > 0 for parameter in parameters.values())))
    if fragments > most:
        raise ConfigError(
            f"[outer] fragments is {fragments}; there can be {most}: one for each local step of "
            f"{every}, and for each parameter"
        )
    planner = policy.then if isinstance(policy, Accordion) else policy
    if isinstance(planner, LGreCo) and planner.window < fragments:
        raise ConfigError(
            f"[outer] LGreCo: window is {planner.window}, and a plan is made from as many "
            f"synchronisations, of one fragment each; let it be at least {fragments}, better some "
            "times as much"
        )
    # Of the parameters themselves: their copies have dtype and memory in any case.
    _torch.check_arguments(
        layers=[(name, parameter.detach()) for name, parameter in parameters.items()],
        method="dense",
        policy={"kind": "uniform"},
        settings=engine_settings(settings, 1.0) | {"caller_settings": []},
    )


def _host_copy(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().to(
        "cpu", torch.float32, copy=True, memory_format=torch.contiguous_format
    )


def _all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    return all(bool(tensor.detach().isfinite().all()) for tensor in tensors)


def _described(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """For the comparison of the ranks: a broadcast needs equal sizes."""
    return {
        f"frozen parameter or buffer '{name}'": f"{tuple(tensor.shape)} {tensor.dtype}"
        for name, tensor in tensors.items()
    }


def _shapes(tensors: object) -> dict[str, tuple[int, ...]] | None:
    if not isinstance(tensors, Mapping):
        return None
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        return None
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
