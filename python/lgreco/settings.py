"""The keyword arguments that the front ends share: here, and nowhere else, are their names, types,
defaults and meanings."""

from __future__ import annotations

import difflib
import os
import textwrap
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from numbers import Real
from typing import Annotated, Any, TypedDict, TypeVar, cast, get_args, get_type_hints

from lgreco import _core
from lgreco.arguments import require_whole, shown
from lgreco.errors import ConfigError


class Setting:
    """What an annotation says of a keyword: its default and, for help(), its meaning."""

    def __init__(self, default: object, meaning: str) -> None:
        self.default = default
        self.meaning = meaning


class CommonSettingsKeywords(TypedDict, total=False):
    """Of everything that averages."""

    error_feedback: Annotated[
        bool, Setting(True, "keep what was not sent and add it to the next gradient.")
    ]
    seed: Annotated[int, Setting(0, "of all random numbers; the same on every rank.")]
    start: Annotated[int, Setting(0, "steps before this one travel dense.")]
    timeout: Annotated[
        float | None,
        Setting(
            None,
            "seconds that a step may take, from its first bucket to its end, before it fails with "
            "PeerError (None: as the process group's own operations).",
        ),
    ]
    residual: Annotated[
        str, Setting("fp32", 'how error feedback is kept: "fp32", or "bf16" for half the memory.')
    ]
    threads: Annotated[
        int | None,
        Setting(None, "that encode and decode (None: this rank's share of the cores, at most 4)."),
    ]
    lanes: Annotated[
        int,
        Setting(2, "2 overlaps the rounds of consecutive buckets; 1 saves a process group."),
    ]


class ReplicaSettingsKeywords(CommonSettingsKeywords, total=False):
    """Of every front end that averages gradients."""

    keep_previous: Annotated[
        bool,
        Setting(
            False,
            "keep what a step changes as it was, for discard_last_step(): the memory of another "
            "residual.",
        ),
    ]
    grad_scaler: Annotated[
        Any,
        Setting(
            None,
            "the torch.amp.GradScaler that scales the loss, or anything with its get_scale(): its "
            "scale is read before each pass.",
        ),
    ]


class SettingsKeywords(ReplicaSettingsKeywords, total=False):
    """Of front ends that know the parameters."""

    drift_check_every: Annotated[
        int, Setting(100, "steps between comparisons of the ranks' parameters; 0 for never.")
    ]


class DataParallelSettingsKeywords(SettingsKeywords, total=False):
    """Of front ends that are handed whole gradients, bucket by bucket."""

    node: Annotated[
        Any,
        Setting(
            "auto",
            "the ranks that share this rank's machine: they add their gradients up first, each "
            "whole layers, and compress between machines what one rank would send. A process group "
            'of these ranks, "auto" (of LOCAL_WORLD_SIZE consecutive ranks, as torchrun starts '
            "them), or None. Without effect on one machine, or with one rank on each.",
        ),
    ]


class OuterStepSettingsKeywords(CommonSettingsKeywords, total=False):
    """Of local steps: averages of how far they went."""

    drift_check_every: Annotated[
        int,
        Setting(1, "synchronisations between comparisons of the outer parameters; 0 for never."),
    ]


class Settings(DataParallelSettingsKeywords):
    """Checked, and complete."""


Keywords = type[CommonSettingsKeywords]


def settings_of(keywords: Keywords) -> dict[str, Setting]:
    """By name, in the order in which they are written down."""
    hints = get_type_hints(keywords, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}


def checked_settings(
    front_end: str, given: Mapping[str, object], keywords: Keywords = SettingsKeywords
) -> Settings:
    """`given`, what `front_end` was called with, and defaults for the rest.

    Raises TypeError, as Python does, on a keyword that `front_end` does not have, and ConfigError
    on a value out of range.
    """
    known = settings_of(keywords)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(
                f"[compress] {front_end} has no setting '{name}'"
                + (f", but '{near[0]}'" if near else "")
                + f"; there are {', '.join(known)}"
            )
    of_all = {name: one.default for name, one in (settings_of(Settings) | known).items()}
    settings = cast(Settings, of_all | dict(given))
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    for name in ("seed", "start", "drift_check_every", "lanes"):
        require_whole(f"[compress] {name}", settings[name])
    switches = {name: settings[name] for name in ("error_feedback", "keep_previous")}
    for switch, is_on in switches.items():
        if not isinstance(is_on, bool):
            raise ConfigError(f"[compress] {switch} must be True or False, not {shown(is_on)}")
    residual = settings["residual"]
    if not isinstance(residual, str) or residual not in ("fp32", "bf16"):
        raise ConfigError(f"[compress] residual is {shown(residual)}; use 'fp32' or 'bf16'")
    if settings["lanes"] not in (1, 2):
        raise ConfigError(f"[compress] lanes is {shown(settings['lanes'])}; there can be 1 or 2")
    node = settings["node"]
    is_group = hasattr(node, "rank") and hasattr(node, "size")
    is_auto = isinstance(node, str) and node == "auto"
    if node is not None and not is_auto and not is_group:
        raise ConfigError(
            f"[compress] node is {shown(node)}; use 'auto', None, or a process group of the ranks "
            "of this rank's node"
        )
    scaler = settings["grad_scaler"]
    if scaler is not None and not callable(getattr(scaler, "get_scale", None)):
        raise ConfigError(
            f"[compress] grad_scaler is a {type(scaler).__name__}; give a torch.amp.GradScaler, or "
            "something else with its get_scale()"
        )
    timeout = settings["timeout"]
    if timeout is not None and not (
        isinstance(timeout, Real) and 1e-3 <= timeout <= _core.LONGEST_TIMEOUT_SECONDS
    ):
        raise ConfigError(
            f"[compress] timeout ({shown(timeout)} s) must be from a millisecond to a year"
        )
    if settings["threads"] is not None:
        require_whole("[compress] threads", settings["threads"], least=1, most=1024)


def engine_settings(settings: Settings, timeout_seconds: float) -> dict[str, object]:
    """What the engine is told of them."""
    threads = settings["threads"]
    not_its_business = ("lanes", "grad_scaler", "node")
    of_engine = {name: value for name, value in settings.items() if name not in not_its_business}
    return of_engine | {
        "timeout": timeout_seconds,
        "threads": _spare_threads() if threads is None else threads,
    }


def _spare_threads() -> int:
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # as torchrun tells
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(4, (cores or 1) // ranks_here))


Function = TypeVar("Function", bound=Callable[..., object])


def takes_settings(keywords: Keywords) -> Callable[[Function], Function]:
    """Tell help() about the keywords behind a function's `**settings`: in its signature and, in the
    place of "{settings}", in its docstring."""

    def tell(function: Function) -> Function:
        types = get_type_hints(keywords)
        settings = settings_of(keywords)
        own = signature(function)
        written = [p for p in own.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        behind = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=one.default, annotation=types[name])
            for name, one in settings.items()
        ]
        documented: Any = function
        documented.__signature__ = own.replace(parameters=[*written, *behind])
        if function.__doc__:
            lines = [f"{name}: {one.meaning}" for name, one in settings.items()]
            documented.__doc__ = function.__doc__.replace("{settings}", _indented(lines, 8))
        return function

    return tell


def _indented(lines: list[str], columns: int) -> str:
    margin = " " * columns
    wrapped = [
        textwrap.fill(line, 100, initial_indent=margin, subsequent_indent=margin + "    ")
        for line in lines
    ]
    return "\n".join(wrapped).lstrip()
