"""Plans as people read them, for several commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from lgreco.cli.output import print_table, show
from lgreco.methods import Dense
from lgreco.plan import Estimate, LayerEstimate, Plan

Columns = dict[str, Callable[[LayerEstimate], str]]
MEASURES = {"norm": "error", "squared": "squared error", "debt": "debt"}


def gap(plan: Plan) -> float | None:
    """How far above the proven bound the plan's bytes can be: 0 for a proven optimum.

    None when nothing is proven, as of plans for time and levels that were not planned.
    """
    return plan.bytes / plan.lower_bound - 1 if plan.lower_bound else None


def print_bound(plan: Plan) -> None:
    known = gap(plan)
    if known is not None:
        show(f"no plan has fewer than {plan.lower_bound:,.0f} bytes: gap {100 * known:.3f} %")


def compared(chosen: float, other: float, name: str = "reference") -> str:
    """Of bytes: `reference 200: 2.00x fewer`."""
    ratio = f"{other / chosen:.2f}x fewer" if chosen else "nothing to send"
    return f"{name} {other:,.0f}: {ratio}"


def print_plan(plan: Plan) -> None:
    """Per layer, with figures when the plan has estimates, and in total."""
    title = f"Plan {plan.hash}, version {plan.version}, from step {plan.step}"
    if plan.estimates:
        _print_estimates(plan, title)
    else:
        compressed, dense = _without_dense(plan)
        rows: list[Sequence[object]] = [[name, plan[name]] for name in compressed]
        if dense:
            rows.append([layers_in_one(len(dense)), "dense"])
        print_table(title, ["layer", "level"], rows, text_columns=["level"])
        show(f"{plan.bytes:,.0f} payload bytes")
    print_bound(plan)
    if plan.budget:
        show(f"error {plan.error:.6g}, budget {plan.budget:.6g}, in the budget's measure")


def layers_in_one(count: int) -> str:
    """The name of a row that stands for so many."""
    return f"{count} layer" + ("" if count == 1 else "s")


def _without_dense(plan: Plan) -> tuple[list[str], list[str]]:
    """Names of what is compressed, and of what travels dense, which is one row."""
    dense = [name for name, level in plan.items() if level == Dense()]
    return [name for name in plan if name not in set(dense)], dense


def _dense_row(plan: Plan, dense: Sequence[str], columns: Columns) -> list[object]:
    """With the sums of those that have estimates, and how many there are of each reason."""
    known = [plan.estimates[name] for name in dense if name in plan.estimates]
    reasons = Counter(estimate.reason for estimate in known)
    estimate = _sum_of(known, "; ".join(f"{count}: {why}" for why, count in reasons.most_common()))
    cells = _cells(estimate if known else None, columns)
    return [layers_in_one(len(dense)), "dense", *cells]


def _sum_of(known: Sequence[LayerEstimate], reason: str) -> LayerEstimate:
    return LayerEstimate(
        reason=reason,
        chosen=total_of([e.chosen for e in known]),
        reference=total_of([e.reference for e in known]),
        dense=total_of([e.dense for e in known]),
    )


def total_of(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(
        bytes=sum(e.bytes for e in estimates),
        error=sum(e.error for e in estimates),
        seconds=sum(e.seconds for e in estimates),
    )


def _print_estimates(plan: Plan, title: str) -> None:
    known = list(plan.estimates.values())
    total = _sum_of(known, "")
    columns = dict(_COLUMNS)
    if total.chosen.seconds or total.reference.seconds:
        columns |= _TIME_COLUMNS
    columns["why"] = lambda e: e.reason
    compressed, dense = _without_dense(plan)
    rows: list[Sequence[object]] = [
        [name, plan[name], *_cells(plan.estimates.get(name), columns)] for name in compressed
    ]
    if dense:
        rows.append(_dense_row(plan, dense, columns))
    print_table(
        title,
        ["layer", "level", *columns],
        rows,
        total=["total", "", *_cells(total, columns)],
        text_columns=["level", "why"],
    )
    partly = f" of {len(known)} of {len(plan)} layers" if len(known) < len(plan) else ""
    show(
        f"bytes{partly} {total.chosen.bytes:,.0f}, "
        f"{compared(total.chosen.bytes, total.reference.bytes)}, "
        f"{compared(total.chosen.bytes, total.dense.bytes, 'dense')}"
    )


def _cells(estimate: LayerEstimate | None, columns: Columns) -> list[str]:
    return ["-" if estimate is None else cell(estimate) for cell in columns.values()]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


_COLUMNS: Columns = {
    "bytes": lambda e: f"{e.chosen.bytes:,.0f}",
    "of reference": lambda e: _percent(e.chosen.bytes, e.reference.bytes),
    "of dense": lambda e: _percent(e.chosen.bytes, e.dense.bytes),
    "error": lambda e: f"{e.chosen.error:.4g}",
    "reference error": lambda e: f"{e.reference.error:.4g}",
}
_TIME_COLUMNS: Columns = {
    "ms": lambda e: f"{1e3 * e.chosen.seconds:.3g}",
    "reference ms": lambda e: f"{1e3 * e.reference.seconds:.3g}",
    "dense ms": lambda e: f"{1e3 * e.dense.seconds:.3g}",
}
