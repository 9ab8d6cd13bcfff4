"""`lgreco advise`: compress or not, and how, from a probe of some twenty steps."""

from __future__ import annotations

import json as json_module
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lgreco import _core
from lgreco.cli import units
from lgreco.cli.output import AsJson, print_json, print_table
from lgreco.errors import Error
from lgreco.methods import method as parse_method

if TYPE_CHECKING:
    from lgreco.advise import Advice, NetworkTiming

_MUCH = 0.5  # of a gradient


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
    also stand after the target; what is meant for the script goes behind --.
    """
    from lgreco.advise import launch
    from lgreco.advise import target as targets

    levels = [str(parse_method(spelling)) for spelling in level or _default_levels()]
    given = {
        "bandwidth": None if bandwidth is None else units.bandwidth(bandwidth),
        "latency": None if latency is None else units.seconds(latency),
    }
    _check_network(**given)
    targets.check_target(target, arguments or [])
    if launch.on_a_rank():
        _advise_on_a_rank(target, arguments or [], levels, given, ranks, json)
        return
    options = _own_options(level, bandwidth, latency, ranks)
    found = launch.advice_of_own_ranks([*options, target, "--", *(arguments or [])])
    _show(found, json)


def _default_levels() -> tuple[str, ...]:
    from lgreco.advise import DEFAULT_LEVELS

    return DEFAULT_LEVELS


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
    from lgreco.advise import advice_from, launch
    from lgreco.advise.target import measure

    result = launch.result_file()
    try:
        measured = measure(target, arguments, levels)
        found = advice_from(measured, _asked(measured.network, **given), ranks)
    except Error as error:
        if result is None:
            raise
        result.write_text(json_module.dumps({"error": str(error)}))
        _leave(0)
    if result is not None:
        result.write_text(json_module.dumps(found.to_dict()))
    elif int(os.environ["RANK"]) == 0:
        _show(found, json)
    _leave(0)


def _leave(status: int) -> None:
    """Without Python's end: the interrupted program's process groups may wait for their peers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _asked(
    measured: NetworkTiming, bandwidth: float | None, latency: float | None
) -> NetworkTiming:
    from lgreco.advise import NetworkTiming

    if bandwidth is None and latency is None:
        return measured
    return NetworkTiming(
        measured.bandwidth if bandwidth is None else bandwidth,
        measured.latency if latency is None else latency,
        measured=False,
    )


def _show(advice: Advice, as_json: bool) -> None:
    if as_json:
        print_json(advice.to_dict())
        return
    _print_measured(advice)
    _print_predictions(advice)
    _print_verdict(advice)


def _print_measured(advice: Advice) -> None:
    m = advice.measured
    waiting = max(0.0, m.ddp_s - m.compute_s)
    buckets = "1 bucket" if m.buckets == 1 else f"{m.buckets} buckets"
    print(
        f"Probe on {m.ranks} ranks: {m.layers} layers, "
        f"{units.show_bytes(m.gradient_bytes)} of gradients in {buckets}"
    )
    print(f"  compute     {units.show_seconds(m.compute_s)} a step (without communication)")
    print(
        f"  DDP         {units.show_seconds(m.ddp_s)} a step: "
        f"{units.show_seconds(waiting)} of it waits for gradients"
    )
    print(f"  network     {_network_text(m.network)}, measured")
    print(f"  overlap     {_overlap_text(m.window_s, advice.overlap)}")


def _overlap_text(window_s: float, overlap: float) -> str:
    if not window_s:
        return "none: a single bucket is ready only when the backward pass ends"
    return (
        f"the backward pass can hide {units.show_seconds(window_s)} of communication; "
        f"{100 * overlap:.0f} % of what it could was hidden"
    )


def _network_text(network: NetworkTiming) -> str:
    return (
        f"{units.show_bandwidth(network.bandwidth)} a rank, "
        f"{units.show_seconds(network.latency)} a collective"
    )


def _print_predictions(advice: Advice) -> None:
    source = "measured" if advice.network.measured else "given"
    title = f"Predicted for {advice.ranks} ranks, {_network_text(advice.network)} ({source})"
    print_table(
        title,
        ["level", "payload", "lost", "codec", "on the wire", "not hidden", "step", "speed"],
        [
            [
                p.level,
                units.show_bytes(p.payload_bytes),
                f"{100 * p.lost:.1f} %",
                units.show_seconds(p.codec_s),
                units.show_seconds(p.wire_s),
                units.show_seconds(p.exposed_s),
                units.show_seconds(p.step_s),
                f"x{p.speedup:.2f}",
            ]
            for p in advice.predictions
        ],
    )
    print(
        "lost: of one gradient; error feedback sends it later. codec: encode and decode of a rank, "
        "one thread.\nstep: compute + codec + what of the wire the backward pass does not hide."
    )


def _print_verdict(advice: Advice) -> None:
    best = next(p for p in advice.predictions if p.level == advice.level)
    plain = advice.predictions[0]
    times = (
        f"{units.show_seconds(best.step_s)} instead of {units.show_seconds(plain.step_s)} a step"
    )
    if advice.compress:
        print(f"\nAdvice: {advice.verdict}: {times}")
        print(f'  lgreco.compress(ddp, lgreco.method("{advice.level}"))')
        if best.lost > _MUCH:
            print(f"  It loses {100 * best.lost:.0f} % of a gradient: compare the loss with DDP's.")
    else:
        print(f"\nAdvice: {advice.verdict}; the best level, {advice.level}, would give {times}")
    m = advice.measured
    print(
        f"How sure: the same model predicts {units.show_seconds(advice.ddp_predicted_s)} for the "
        f"step of DDP that took {units.show_seconds(m.ddp_s)} in the probe: "
        f"{100 * advice.off:.0f} % off"
    )
    if not advice.network.measured:
        print("The network is the given one; nothing was measured over it.")
