"""What the logs say: means over seeds, rank correlations, curves against uniform settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.budget_study.measures import MEASURES, Evidence
from experiments.budget_study.plans import levels_on
from experiments.budget_study.settings import candidates, family
from experiments.budget_study.window import Window
from lgreco import method

Entry = dict
LEAST_PLANS = 3
SLACK = 1.02  # plans hit their ratio from below


@dataclass(frozen=True)
class Point:
    """A setting over all seeds. `payload` is in bytes a step, `ratio` dense over payload."""

    name: str
    level: str
    measure: str
    payload: float
    ratio: float
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.accuracies))

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses))

    @property
    def group(self) -> str:
        """Its measure, or the family of a uniform setting."""
        return self.measure or family(self.level)


def read_log(path: Path) -> list[Entry]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def points(entries: Iterable[Entry]) -> list[Point]:
    """One for each setting, by falling payload."""
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry["name"], []).append(entry)
    found = [_point(name, runs) for name, runs in by_name.items()]
    return sorted(found, key=lambda point: -point.payload)


def _point(name: str, runs: Sequence[Entry]) -> Point:
    payload = float(np.mean([run["payload"] for run in runs]))
    return Point(
        name,
        runs[0]["level"],
        "/".join(filter(None, (runs[0]["measure"], runs[0].get("within", "")))),
        payload,
        runs[0]["dense_payload"] / payload,
        tuple(run["accuracy"] for run in runs),
        tuple(run["loss"] for run in runs),
    )


def ranks(values: Sequence[float]) -> np.ndarray:
    """From 0; equal values share the mean of theirs, and what is no number comes last."""
    array = np.nan_to_num(np.asarray(values, dtype=float), nan=np.inf, posinf=np.inf)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of the ranks; NaN when all of one are equal."""
    a, b = ranks(first), ranks(second)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def harms(entries: Sequence[Entry], window: Window) -> dict[str, list[float]]:
    """For each measure, and for the payload alone, its sum over the layers of each run."""
    evidence = Evidence.of(window, candidates())
    chosen = [
        levels_on(evidence.table, {name: method(m) for name, m in entry["plan"].items()})
        for entry in entries
    ]
    rows = np.arange(len(evidence.table.names))
    sums = {
        name: [float(harm[rows, columns].sum()) for columns in chosen]
        for name, harm in ((name, measure(evidence)) for name, measure in MEASURES.items())
    }
    return {"bytes alone": [-entry["payload"] for entry in entries], **sums}


@dataclass(frozen=True)
class Correlation:
    """Of a measure with the final test loss: over all runs, and over plans of equal bytes."""

    all_runs: float
    equal_bytes: float


def correlations(entries: Sequence[Entry], window: Window) -> dict[str, Correlation]:
    """Spearman's, of each measure, over the runs of one seed."""
    losses = np.array([entry["loss"] for entry in entries])
    groups = _plans_by_ratio(entries)
    found = {}
    for name, sums in harms(entries, window).items():
        array = np.array(sums)
        each = [spearman(array[group], losses[group]) for group in groups]
        found[name] = Correlation(spearman(array, losses), _mean(each))
    return found


def _plans_by_ratio(entries: Sequence[Entry]) -> list[list[int]]:
    """Positions of the mixed plans of each ratio that has several, equal plans once."""
    groups: dict[float, dict[str, int]] = {}
    for i, entry in enumerate(entries):
        if entry["measure"]:
            groups.setdefault(entry["ratio"], {})[json.dumps(entry["plan"])] = i
    return [list(group.values()) for group in groups.values() if len(group) >= LEAST_PLANS]


@dataclass(frozen=True)
class Comparison:
    """A plan against the uniform settings of every family, of one seed.

    `gain`: its accuracy minus the best family's at the same bytes. `fewer`: how many times more
    bytes the best family needs for its accuracy; infinite if no family reaches it.
    """

    gain: float
    fewer: float


def compare(plan: Point, uniform: Sequence[Point]) -> Comparison | None:
    """Settings of a family are joined by lines; None where no family has the plan's bytes."""
    heights, needed = [], []
    for line in _families(uniform):
        payloads = np.array([point.payload for point in line])
        accuracies = np.array([point.accuracy for point in line])
        if payloads[0] <= plan.payload * SLACK and plan.payload <= payloads[-1] * SLACK:
            heights.append(np.interp(np.log(plan.payload), np.log(payloads), accuracies))
        needed.append(least_payload(payloads, accuracies, plan.accuracy))
    if not heights:
        return None
    least = min((payload for payload in needed if payload is not None), default=np.inf)
    return Comparison(plan.accuracy - float(max(heights)), float(least / plan.payload))


def _families(uniform: Sequence[Point]) -> list[list[Point]]:
    """Each by rising payload."""
    lines: dict[str, list[Point]] = {}
    for point in sorted(uniform, key=lambda point: point.payload):
        lines.setdefault(family(point.level), []).append(point)
    return list(lines.values())


def least_payload(payloads: np.ndarray, accuracies: np.ndarray, wanted: float) -> float | None:
    """Where the curve (rising payloads, joined in the logarithm) first reaches `wanted`."""
    if accuracies[0] >= wanted:
        return float(payloads[0])
    for i in range(1, len(payloads)):
        if accuracies[i] >= wanted:
            share = (wanted - accuracies[i - 1]) / (accuracies[i] - accuracies[i - 1])
            low, high = np.log(payloads[i - 1 : i + 1])
            return float(np.exp(low + share * (high - low)))
    return None


def mean_correlations(seeds: Sequence[Mapping[str, Correlation]]) -> dict[str, Correlation]:
    """Of each measure, over the seeds."""
    return {
        name: Correlation(
            _mean([seed[name].all_runs for seed in seeds]),
            _mean([seed[name].equal_bytes for seed in seeds]),
        )
        for name in (seeds[0] if seeds else ())
    }


def _mean(values: Sequence[float]) -> float:
    """Of those that are numbers."""
    numbers = [value for value in values if np.isfinite(value)]
    return float(np.mean(numbers)) if numbers else float("nan")
