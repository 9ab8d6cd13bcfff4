"""How every benchmark ends: tables on the terminal, figures in a file, the same tables in the page.

A benchmark's tables are a function of what its file holds, so that the page can be filled from the
files alone (`python -m benchmarks.tables`), and a test can see that it shows what they hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/benchmarks.md"


@dataclass(frozen=True)
class Grid:
    """A table of text: the first `labels` columns say what is measured, the others are figures."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    labels: int = 1

    def rich(self) -> Table:
        table = Table(title=self.title or None, title_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index < self.labels else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        kinds = ["---" if i < self.labels else "--:" for i in range(len(self.columns))]
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, *self.rows)]
        lines.insert(1, f"|{'|'.join(kinds)}|")
        title = [f"**{self.title}**", ""] if self.title else []
        return "\n".join([*title, *lines])


@dataclass(frozen=True)
class Target:
    text: str
    measured: str
    met: bool


def at_least(text: str, value: float, least: float) -> Target:
    return Target(f"{text} >= {least:g}x", f"{value:.2f}x", value >= least)


def at_most_times(text: str, value: float, most: float) -> Target:
    return Target(f"{text} <= {most:.3g}x", f"{value:.2f}x", value <= most)


def at_most(text: str, share: float, most: float) -> Target:
    return Target(f"{text} <= {most:.0%}", f"{share:.2%}", share <= most)


def target_grid(targets: Sequence[Target]) -> Grid:
    rows = [(t.text, t.measured, yes_or_no(t.met)) for t in targets]
    return Grid(("target", "measured", "met"), rows)


def yes_or_no(met: bool) -> str:
    return "yes" if met else "NO"


Tables = Callable[[Any], list[Grid]]


def results_file(name: str) -> Path:
    return ROOT / f"benchmarks/results/{name}.json"


def publish(name: str, results: Any, tables: Tables) -> None:
    """Print and write `results`, which JSON can hold, and their tables."""
    grids = tables(results)
    console = Console(width=150)
    for grid in grids:
        console.print(grid.rich())
    file = results_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), name, grids))


def filled(page: str, name: str, grids: Sequence[Grid]) -> str:
    """`page` with `grids` in the block of that name. Raises ValueError when it has none."""
    block = re.compile(f"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    text = "\n\n".join(grid.markdown() for grid in grids)
    page, count = block.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} blocks '{name}', not 1")
    return page
