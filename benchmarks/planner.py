"""The exact solver against HiGHS, a dynamic programme in NumPy, and the paper's `dp`.

python -m benchmarks.planner           (make bench-planner)

See planner_instances.py and planner_references.py. All times are of one thread, the conversion from
Python included; each is the median of five solves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

import numpy as np
import typer

import lgreco
from benchmarks.planner_instances import (
    Instance,
    hard_instance,
    random_instance,
    real_instances,
)
from benchmarks.planner_references import highs, numpy_dp
from benchmarks.report import Grid, Target, publish, target_grid

REPETITIONS = 5
RANDOM = 500
HARD = 20
LARGE = (160, 121)


@dataclass
class Solved:
    """`highs`: "equal", "HiGHS costlier" (it ran out of time), "HiGHS unproven" (equal, too), "-",
    or "DIFFERENT"."""

    name: str
    size: str
    seconds: float
    gap: float
    dp_costlier: float  # the dp solver's cost over the exact one's, less 1
    highs: str
    highs_s: float


def timed(call: Callable[[], object]) -> float:
    begin = perf_counter()
    call()
    return perf_counter() - begin


def median_seconds(call: Callable[[], object]) -> float:
    return median(timed(call) for _ in range(REPETITIONS))


def solve(instance: Instance, solver: str = "exact") -> lgreco.Solution:
    return lgreco.solve(
        instance.costs, instance.errors, instance.budget, instance.reference, solver
    )


def measure(instance: Instance, highs_seconds: float, with_dp: bool = True) -> Solved:
    """Without HiGHS when `highs_seconds` is 0."""
    exact = solve(instance)
    if not exact.feasible or exact.error > instance.budget:
        raise SystemExit(f"{instance.name}: outside the budget")
    begin = perf_counter()
    verdict = compare(instance, exact, highs_seconds) if highs_seconds else "-"
    highs_s = perf_counter() - begin
    seconds = median_seconds(lambda: solve(instance))
    gap = (exact.cost - exact.lower_bound) / exact.cost
    costlier = solve(instance, "dp").cost / exact.cost - 1 if with_dp else 0.0
    return Solved(instance.name, instance.size, seconds, gap, costlier, verdict, highs_s)


def compare(instance: Instance, exact: lgreco.Solution, seconds: float) -> str:
    result = highs(instance, seconds)
    if np.isnan(result.cost) or result.error > instance.budget:
        return "HiGHS unproven"  # nothing within the budget, or outside by its tolerance
    same = abs(result.cost - exact.cost) <= 1e-9 * exact.cost
    if same:
        return "equal" if result.proven else "HiGHS unproven"
    return "HiGHS costlier" if result.cost > exact.cost and not result.proven else "DIFFERENT"


def large_instance() -> Instance:
    """Costs linear and errors falling in the level, as those of ranks 8 to 128; budget: rank 32."""
    rng = np.random.default_rng(1)
    layers, levels = LARGE
    level = np.arange(8, 8 + levels)
    sizes = np.floor(4000 * rng.uniform(0.5, 2, layers))
    decays, norms = rng.uniform(0.5, 2, layers) / 40, rng.uniform(0.5, 2, layers)
    costs = [size * level for size in sizes]
    errors = [n * np.exp(-d * level) for n, d in zip(norms, decays, strict=True)]
    reference = [24] * layers
    budget = float(sum(row[24] for row in errors))
    return Instance("ranks 8 to 128", costs, errors, budget, reference)


def compare_speed() -> dict[str, float]:
    """Solvers in turn, so that what else the machine does falls on all."""
    instance = large_instance()
    times: dict[str, list[float]] = {"exact": [], "dp": [], "numpy": []}
    for _ in range(REPETITIONS):
        times["exact"].append(median_seconds(lambda: solve(instance)))
        times["dp"].append(timed(lambda: solve(instance, "dp")))
        times["numpy"].append(timed(lambda: numpy_dp(instance)))
    exact, dp = solve(instance), solve(instance, "dp")
    in_numpy = instance.total(instance.costs, numpy_dp(instance))
    return {
        **{f"{solver}_s": median(seconds) for solver, seconds in times.items()},
        "numpy_over_exact": median(
            n / e for n, e in zip(times["numpy"], times["exact"], strict=True)
        ),
        "gap": (exact.cost - exact.lower_bound) / exact.cost,
        "dp_costlier": dp.cost / exact.cost - 1,
        "numpy_costlier": in_numpy / exact.cost - 1,
    }


def summary(name: str, solved: list[Solved]) -> dict[str, object]:
    seconds = np.array([s.seconds for s in solved])
    verdicts = [s.highs for s in solved]
    return {
        "instances": name,
        "count": len(solved),
        "proven_within_50_ms": float(np.mean([s.gap == 0 and s.seconds <= 0.05 for s in solved])),
        "proven": sum(s.gap == 0 for s in solved),
        "largest_gap": max(s.gap for s in solved),
        "median_s": float(np.median(seconds)),
        "p99_s": float(np.quantile(seconds, 0.99)),
        "largest_s": float(seconds.max()),
        "dp_cheaper": sum(s.dp_costlier < 0 for s in solved),
        "highs": {v: verdicts.count(v) for v in dict.fromkeys(verdicts)},
    }


def tables(data: dict) -> list[Grid]:
    return [
        summary_grid(data["summaries"]),
        real_grid([Solved(**row) for row in data["real"]]),
        speed_grid(data["speed"]),
        target_grid(targets(data["summaries"])),
    ]


def summary_grid(summaries: list[dict]) -> Grid:
    rows = [
        (
            f"{s['count']} {s['instances']}",
            str(s["proven"]),
            f"{s['proven_within_50_ms']:.0%}",
            f"{s['largest_gap']:.1g}",
            *(f"{1e3 * s[key]:.2f} ms" for key in ("median_s", "p99_s", "largest_s")),
            ", ".join(f"{n} {verdict}" for verdict, n in s["highs"].items() if verdict != "-"),
        )
        for s in summaries
    ]
    times = "in 50 ms", "largest gap", "median", "p99", "largest"
    return Grid(("instances", "proven optimal", *times, "HiGHS"), rows)


def real_grid(real: list[Solved]) -> Grid:
    columns = "tables of training", "layers x candidates", "exact", "`dp` costlier by", "HiGHS"
    rows = [
        (
            s.name,
            s.size,
            f"{1e3 * s.seconds:.2f} ms",
            f"{s.dp_costlier:.2%}",
            f"{s.highs}, {s.highs_s:.1f} s",
        )
        for s in real
    ]
    return Grid(columns, rows, labels=2)


def speed_grid(speed: dict[str, float]) -> Grid:
    rows = [
        ("exact (proven)", f"{1e3 * speed['exact_s']:.2f} ms", "-"),
        ("`dp`, 10,000 cells", f"{1e3 * speed['dp_s']:.0f} ms", f"{speed['dp_costlier']:.2%}"),
        (
            f"NumPy, 10,000 cells ({speed['numpy_over_exact']:.0f} times slower than exact)",
            f"{1e3 * speed['numpy_s']:.0f} ms",
            f"{speed['numpy_costlier']:.2%}",
        ),
    ]
    return Grid(("160 layers x 121 candidates, ranks 8 to 128", "time", "costlier by"), rows)


def targets(summaries: list[dict]) -> list[Target]:
    real = summaries[0]
    differing = sum(s["highs"].get("DIFFERENT", 0) for s in summaries)
    cheaper = sum(s["dp_cheaper"] for s in summaries) + differing
    within = real["proven_within_50_ms"]
    return [
        Target("tables of training proven optimal in 50 ms", f"{within:.0%}", within == 1),
        Target("instances for which another solver is cheaper: 0", str(cheaper), cheaper == 0),
    ]


def main(highs_seconds: float = 20.0) -> None:
    """`highs_seconds`: HiGHS's limit for one instance."""
    speed = compare_speed()
    real = [measure(instance, highs_seconds) for instance in real_instances()]
    small = [
        measure(random_instance(seed, 5 + seed % 26, 3 + seed % 8), highs_seconds)
        for seed in range(RANDOM)
    ]
    # The dp solver takes a second or more for each of these.
    large = [measure(random_instance(seed), 0, with_dp=seed % 20 == 0) for seed in range(RANDOM)]
    hard = [measure(hard_instance(seed), 0) for seed in range(HARD)]
    summaries = [
        summary("tables of training", real),
        summary("random, 5-30 x 3-10", small),
        summary("random, 60-500 x 7-150", large),
        summary("made to be hard, 60-500 x 7-150", hard),
    ]
    results = {"speed": speed, "summaries": summaries, "real": [asdict(s) for s in real]}
    publish("planner", results, tables)
    if any(s.dp_costlier < 0 or s.highs == "DIFFERENT" for s in (*real, *small, *large, *hard)):
        raise SystemExit("a solver found something cheaper than the exact one")


if __name__ == "__main__":
    typer.run(main)
