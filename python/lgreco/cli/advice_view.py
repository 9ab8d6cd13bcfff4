"""What `lgreco advise` prints."""

from __future__ import annotations

from lgreco.advise import Advice, NetworkTiming
from lgreco.cli import units
from lgreco.cli.output import print_json, print_table, show

_MUCH = 0.5  # of a gradient


def show_advice(advice: Advice, as_json: bool) -> None:
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
    show(
        f"Probe on {m.ranks} ranks: {m.layers} layers, "
        f"{units.show_bytes(m.gradient_bytes)} of gradients in {buckets}"
    )
    show(f"  compute     {units.show_seconds(m.compute_s)} a step (without communication)")
    show(
        f"  DDP         {units.show_seconds(m.ddp_s)} a step: "
        f"{units.show_seconds(waiting)} of it waits for gradients"
    )
    show(f"  network     {_network_text(m.network)}, measured")
    show(f"  overlap     {_overlap_text(m.window_s, advice.overlap)}")


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
        [
            *("level", "payload", "lost", "codec", "staging"),
            *("on the wire", "not hidden", "step", "speed"),
        ],
        [
            [
                p.level,
                units.show_bytes(p.payload_bytes),
                f"{100 * p.lost:.1f} %",
                units.show_seconds(p.codec_s),
                units.show_seconds(p.staging_s),
                units.show_seconds(p.wire_s),
                units.show_seconds(p.exposed_s),
                units.show_seconds(p.step_s),
                f"x{p.speedup:.2f}",
            ]
            for p in advice.predictions
        ],
    )
    show(
        "lost: of one gradient; error feedback sends it later. codec: encode and decode of a rank, "
        "one thread.\nstaging: sums inside the nodes, copies from accelerators and back.\n"
        "step: compute + codec + staging + what of the wire the backward pass does not hide."
    )


def _print_verdict(advice: Advice) -> None:
    best = next(p for p in advice.predictions if p.level == advice.level)
    plain = advice.predictions[0]
    times = (
        f"{units.show_seconds(best.step_s)} instead of {units.show_seconds(plain.step_s)} a step"
    )
    if advice.compress:
        show(f"\nAdvice: {advice.verdict}: {times}")
        show(f'  lgreco.compress(ddp, lgreco.method("{advice.level}"))')
        if best.lost > _MUCH:
            show(f"  It loses {100 * best.lost:.0f} % of a gradient: compare the loss with DDP's.")
    else:
        show(f"\nAdvice: {advice.verdict}; the best level, {advice.level}, would give {times}")
    m = advice.measured
    show(
        f"How sure: the same model predicts {units.show_seconds(advice.ddp_predicted_s)} for the "
        f"step of DDP that took {units.show_seconds(m.ddp_s)} in the probe: "
        f"{100 * advice.off:.0f} % off"
    )
    if not advice.network.measured:
        show("The network is the given one; nothing was measured over it.")
