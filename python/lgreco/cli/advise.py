"""`lgreco advise`: compress or not, and how, from a probe of some twenty steps."""

from __future__ import annotations

import json as json_module
import os
import sys
from typing import Annotated, NoReturn

import typer

from lgreco import _core
from lgreco.advise import DEFAULT_LEVELS, NetworkTiming, advice_from, launch
from lgreco.advise.target import check_target
from lgreco.cli import units
from lgreco.cli.advice_view import show_advice
from lgreco.cli.output import AsJson
from lgreco.errors import Error
from lgreco.methods import method as parse_method


def advise(
    target: Annotated[
        str,
        typer.Argument(
            help="A training script (train.py), a module as for python -m, or module:factory; the "
            "factory returns (model, (inputs, targets), loss_function)."
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGS...]", help="Of the script; put -- before them."),
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option(help="A level to try; repeatable. Default: one of each.")
    ] = None,
    bandwidth: Annotated[
        str | None,
        typer.Option(
            help="Of one rank's link, instead of measuring it: 1Gbit, 125MB, or bytes a second."
        ),
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="Of a collective, instead of measuring it: 100us, 0.5ms.")
    ] = None,
    ranks: Annotated[
        int | None, typer.Option(min=2, help="Predict for this many, instead of the probe's.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compress or not? Times some twenty steps of a training, then ends it.

    Under torchrun it probes that job; otherwise it starts two ranks on this machine. Options may
    also stand after the target; what is meant for the script goes behind --. What the script saves
    meanwhile is of no use: in some steps its ranks do not communicate.
    """
    levels = [str(parse_method(spelling)) for spelling in level or DEFAULT_LEVELS]
    given = {
        "bandwidth": None if bandwidth is None else units.bandwidth(bandwidth),
        "latency": None if latency is None else units.seconds(latency),
    }
    _check_network(**given)
    check_target(target, arguments or [])
    if launch.on_a_rank():
        _advise_on_a_rank(target, arguments or [], levels, given, ranks, json)
        return
    options = _own_options(level, bandwidth, latency, ranks)
    found = launch.advice_of_own_ranks([*options, target, "--", *(arguments or [])])
    show_advice(found, json)


def _check_network(bandwidth: float | None, latency: float | None) -> None:
    _core.wire_seconds(
        0, 0, 2, 1.0 if bandwidth is None else bandwidth, 0.0 if latency is None else latency
    )


def _own_options(
    levels: list[str] | None, bandwidth: str | None, latency: str | None, ranks: int | None
) -> list[str]:
    options = [f"--level={level}" for level in levels or []]
    for name, value in (("bandwidth", bandwidth), ("latency", latency), ("ranks", ranks)):
        options += [] if value is None else [f"--{name}={value}"]
    return options


def _advise_on_a_rank(
    target: str,
    arguments: list[str],
    levels: list[str],
    given: dict[str, float | None],
    ranks: int | None,
    json: bool,
) -> None:
    from lgreco.advise.program import measure  # needs torch

    result = launch.result_file()
    try:
        measured = measure(target, arguments, levels)
        found = advice_from(measured, _asked(measured.network, **given), ranks)
    except Error as error:
        if result is None:
            print(f"lgreco: {error}", file=sys.stderr)
            _leave(2)
        result.write_text(json_module.dumps({"error": str(error)}))
        _leave(0)
    if result is not None:
        result.write_text(json_module.dumps(found.to_dict()))
    elif int(os.environ["RANK"]) == 0:
        show_advice(found, json)
    _leave(0)


def _leave(status: int) -> NoReturn:
    """Without Python's end: the interrupted program's process groups may wait for their peers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _asked(
    measured: NetworkTiming, bandwidth: float | None, latency: float | None
) -> NetworkTiming:
    if bandwidth is None and latency is None:
        return measured
    return NetworkTiming(
        measured.bandwidth if bandwidth is None else bandwidth,
        measured.latency if latency is None else latency,
        measured=False,
    )
