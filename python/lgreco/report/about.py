"""What runs were made with: dates, versions, hardware, settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lgreco.run_log import Run

UNKNOWN = "-"


@dataclass(frozen=True)
class Facts:
    """Texts by name: what is the same in all runs, and by run what is not."""

    shared: dict[str, str]
    different: dict[str, list[str]]


def facts(runs: Sequence[Run]) -> Facts:
    of_runs = [_of(run) for run in runs]
    names = list(dict.fromkeys(name for of_run in of_runs for name in of_run))
    cells = {name: [of_run.get(name, UNKNOWN) for of_run in of_runs] for name in names}
    return Facts(
        shared={name: texts[0] for name, texts in cells.items() if len(set(texts)) == 1},
        different={name: texts for name, texts in cells.items() if len(set(texts)) > 1},
    )


def _of(run: Run) -> dict[str, str]:
    start = run["start"][0]
    found = {"date": _date(str(start.get("date", "")))} if start.get("date") else {}
    for name in ("data", "ranks"):
        if start.get(name):
            found[name] = _text(start[name])
    for group in ("settings", "versions", "hardware"):
        found |= {_name(str(key)): _text(value) for key, value in start.get(group, {}).items()}
    return found


def _date(text: str) -> str:
    """2026-01-31T12:00:00+00:00 for people."""
    return text.replace("T", " ").replace("+00:00", " UTC")


def _name(key: str) -> str:
    return "memory, GB" if key == "memory_gb" else key.replace("_", " ")


def _text(value: object) -> str:
    return UNKNOWN if value is None or value == "" else str(value)
