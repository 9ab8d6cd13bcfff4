"""Bits a value and error of every level, beside an ideal entropy-coded quantiser.

python -m benchmarks.codecs         (make bench-codecs)

The ideal is a uniform scalar quantiser with a dead zone, one step for the whole layer, that is
charged the entropy of its codes and nothing else, decodes each code as the mean of its values, and
has the best dead zone of four at each step. Recorded gradients are those of one worker's batch in
two tasks of the study of budgets, after 15 % of a dense run; every layer of 4,096 values or more
counts by itself, and its bits at its own error. Errors are squared, in shares of the energy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import typer

import lgreco
from benchmarks.report import Grid, Target, at_least, at_most_times, publish, target_grid
from experiments.tasks import TASKS
from lgreco.codec import payload_bytes

DRAWN = 1 << 20  # values
RECORDED_TASKS = ("resnet", "transformer")
RECORDED_AT = 0.15  # share of a run
LEAST_LAYER = 4096
STEPS = np.geomspace(2.0**-10, 64, 129)  # of the ideal quantiser, in the values' rms
DEAD_ZONES = (0.5, 0.4, 0.3, 0.2)  # what is added before rounding down

RATES = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8)
DENSITIES = (0.001, 0.003, 0.01, 0.03, 0.1)
BASELINES = ("quantize:4:rounding=stochastic", "topk:0.01:values=bf16")
LEVELS = (
    *(f"entropy:{rate:g}" for rate in RATES),
    *(f"quantize:{bits}" for bits in (1, 2, 3, 4, 5, 6, 8)),
    *(f"topk:{density:g}:values={kind}" for density in DENSITIES for kind in ("2", "4", "bf16")),
    *BASELINES[:1],
)
FACTORS = ("fp32", "bf16", "8", "6", "4", "2")
RANKS = (1, 4)

MOST_OF_IDEAL, MOST_AT_LOW_RATES = 1.25, 1.35
LOW_RATE = 0.5  # bits a value
FEWER_BYTES = {BASELINES[0]: 1.4, BASELINES[1]: 1.8}
FEWER_BYTES_OF_FACTORS, MORE_ERROR_OF_FACTORS = 3.0, 1.03


@dataclass
class Row:
    """Sums over the layers of a source."""

    source: str
    level: str
    bits: float  # a value
    error: float
    ideal_bits: float  # a value, at the same error layer by layer


@dataclass
class Saving:
    """How many times fewer bytes `level` takes than `baseline`, on recorded gradients."""

    baseline: str
    level: str
    fewer: float
    more_error: float  # of the sums; 1 where errors are equal by choice of the rate


Layers = Sequence[np.ndarray]


class Ideal:
    """Rate over error of the ideal quantiser of some values."""

    def __init__(self, values: np.ndarray) -> None:
        magnitudes = np.abs(values.ravel().astype(np.float64))
        scale = np.sqrt(np.mean(magnitudes**2))
        points = [self._point(magnitudes / scale, step, f) for step in STEPS for f in DEAD_ZONES]
        points.sort()
        # The least rate of all points that err no more.
        self._errors = np.array([error for error, _ in points])
        self._rates = np.minimum.accumulate(np.array([rate for _, rate in points]))

    @staticmethod
    def _point(magnitudes: np.ndarray, step: float, rounding: float) -> tuple[float, float]:
        codes = np.floor(magnitudes / step + rounding).astype(np.int64)
        counts = np.bincount(codes)
        sums = np.bincount(codes, magnitudes)
        kept = sums[1:] ** 2 / np.maximum(counts[1:], 1)
        energy = np.sum(magnitudes**2)
        shares = counts[counts > 0] / len(magnitudes)
        signs = 1 - counts[0] / len(magnitudes)
        entropy = -np.sum(shares * np.log2(shares)) + signs
        return float(max(0.0, 1 - kept.sum() / energy)), float(entropy)

    def bits(self, error: float) -> float:
        """A value."""
        return float(
            np.interp(np.log(max(error, 1e-12)), np.log(self._errors + 1e-12), self._rates)
        )


def losses(layer: np.ndarray, method: lgreco.Method) -> tuple[float, float]:
    """Squared error, and energy."""
    decoded = lgreco.decode(lgreco.encode(layer, method), layer.shape, method)
    return float(np.sum((layer - decoded) ** 2.0)), float(np.sum(layer**2.0))


def measured(
    source: str, layers: Layers, ideals: Sequence[Ideal], levels: Iterable[str]
) -> list[Row]:
    rows = []
    count = sum(layer.size for layer in layers)
    for level in levels:
        method = lgreco.method(level)
        lost = energy = bits = ideal = 0.0
        for layer, curve in zip(layers, ideals, strict=True):
            one, own = losses(layer, method)
            lost, energy = lost + one, energy + own
            bits += 8 * payload_bytes(method, layer.shape)
            ideal += layer.size * curve.bits(one / own)
        rows.append(Row(source, level, bits / count, lost / energy, ideal / count))
    return rows


def drawn() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "normal": generator.standard_normal(DRAWN, dtype=np.float32),
        "Laplace": generator.laplace(size=DRAWN).astype(np.float32),
    }


def recorded() -> list[np.ndarray]:
    """Gradients of the layers of both tasks."""
    layers = []
    for name in RECORDED_TASKS:
        task = TASKS[name](None)
        torch.manual_seed(0)
        model = task.model()
        optimizer = task.optimizer(model.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, task.rate)
        batches = task.batches(0, 0, 1)
        for _ in range(round(RECORDED_AT * task.steps)):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            task.loss(model, next(batches)).backward()
        gradients = (parameter.grad.contiguous() for parameter in model.parameters())
        layers += [one.numpy() for one in gradients if one.numel() >= LEAST_LAYER]
    return layers


def bytes_at_error(layer: np.ndarray, error: float) -> float:
    """Of the cheapest `entropy` level that loses no more."""
    low, high = 0.05, 8.0
    for _ in range(12):
        middle = np.sqrt(low * high)
        enough = losses(layer, lgreco.Entropy(float(middle)))[0] <= error
        low, high = (low, middle) if enough else (middle, high)
    return payload_bytes(lgreco.Entropy(float(high)), layer.shape)


def savings(layers: Layers) -> list[Saving]:
    found = []
    for baseline in BASELINES:
        method = lgreco.method(baseline)
        before = sum(payload_bytes(method, layer.shape) for layer in layers)
        after = sum(bytes_at_error(layer, losses(layer, method)[0]) for layer in layers)
        found.append(Saving(baseline, "entropy", before / after, 1.0))
    exact, rounded = lgreco.method("low_rank:4"), lgreco.method("low_rank:4:factors=8")
    matrices = [layer for layer in layers if layer.ndim > 1]
    sizes = [sum(payload_bytes(m, one.shape) for one in matrices) for m in (exact, rounded)]
    errors = [sum(losses(one, m)[0] for one in matrices) for m in (exact, rounded)]
    found.append(
        Saving(str(exact), str(rounded), sizes[0] / sizes[1], float(np.sqrt(errors[1] / errors[0])))
    )
    return found


def tables(data: dict) -> list[Grid]:
    rows = [Row(**row) for row in data["rows"]]
    saved = [Saving(**row) for row in data["savings"]]
    sources = list(dict.fromkeys(row.source for row in rows))
    grids = []
    for source in sources:
        cells = [
            (r.level, f"{r.bits:.3f}", f"{r.error:.4g}", f"{r.ideal_bits:.3f}", f"{factor(r):.2f}")
            for r in rows
            if r.source == source
        ]
        columns = "level", "bits a value", "error", "ideal's bits", "times the ideal's"
        grids.append(Grid(columns, cells, title=source))
    cells = [(s.baseline, s.level, f"{s.fewer:.2f}", f"{s.more_error:.3f}") for s in saved]
    columns = "instead of", "level", "times fewer bytes", "norm of the error, times"
    grids.append(Grid(columns, cells, title="recorded gradients, layer by layer", labels=2))
    return [*grids, target_grid(targets(rows, saved))]


def factor(row: Row) -> float:
    return row.bits / row.ideal_bits if row.ideal_bits > 0 else float("inf")


def targets(rows: Sequence[Row], saved: Sequence[Saving]) -> list[Target]:
    """Of the levels that mixed plans choose from by default, but for low rank."""
    default = {level for level in LEVELS if level.startswith("entropy")}
    mine = [row for row in rows if row.level in default]
    high = max((row for row in mine if row.bits >= 1.9), key=factor)
    low = max((row for row in mine if row.bits <= 1.05 * LOW_RATE), key=factor)
    found = [
        at_most_times(
            f"2 to 8 bits, worst: {high.level}, {high.source}", factor(high), MOST_OF_IDEAL
        ),
        at_most_times(
            f"{LOW_RATE} bits and less, worst: {low.level}, {low.source}",
            factor(low),
            MOST_AT_LOW_RATES,
        ),
    ]
    for one in saved:
        least = FEWER_BYTES.get(one.baseline, FEWER_BYTES_OF_FACTORS)
        found.append(at_least(f"fewer bytes than {one.baseline}", one.fewer, least))
        if one.more_error != 1:
            found.append(
                at_most_times(f"error of {one.level}", one.more_error, MORE_ERROR_OF_FACTORS)
            )
    return found


def main() -> None:
    rows = []
    for source, values in drawn().items():
        rows += measured(source, [values], [Ideal(values)], LEVELS)
    layers = recorded()
    ideals = [Ideal(layer) for layer in layers]
    low_rank = [f"low_rank:{rank}:factors={kind}" for rank in RANKS for kind in FACTORS]
    rows += measured("recorded gradients", layers, ideals, (*LEVELS, *low_rank))
    results = {"rows": [asdict(r) for r in rows], "savings": [asdict(s) for s in savings(layers)]}
    publish("codecs", results, tables)


if __name__ == "__main__":
    typer.run(main)
