"""The tables of docs/benchmarks.md, from benchmarks/results.

python -m benchmarks.tables          (after a change of tables; every benchmark fills in its own)
"""

from __future__ import annotations

import json

from benchmarks import (
    allreduce,
    analysis,
    bytes,
    checks,
    codecs,
    kernels,
    nodes,
    overlap,
    parameter_groups,
    planner,
    plans,
    replanning,
    scale,
    simulate,
    step_report,
)
from benchmarks.report import PAGE, Grid, Tables, filled, results_file

TABLES: dict[str, Tables] = {
    "allreduce": allreduce.tables,
    "analysis": analysis.tables,
    "bytes": bytes.tables,
    "checks": checks.tables,
    "codecs": codecs.tables,
    "groups": parameter_groups.tables,
    "kernels": kernels.tables,
    "nodes": nodes.tables,
    "overlap": overlap.tables,
    "planner": planner.tables,
    "plans": plans.tables,
    "replanning": replanning.tables,
    "scale": scale.tables,
    "simulate": simulate.tables,
    "training": step_report.tables,
}


def recorded(name: str) -> list[Grid]:
    """Of the last run."""
    return TABLES[name](json.loads(results_file(name).read_text()))


def main() -> None:
    page = PAGE.read_text()
    for name in TABLES:
        page = filled(page, name, recorded(name))
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
