"""Logs, read and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lgreco.arguments import shown
from lgreco.errors import StateError
from lgreco.files import read_file

Line = dict[str, Any]  # as JSON holds it
Run = dict[str, list[Line]]  # by event

_MOST_BYTES = 1 << 32


def _is_number(value: object) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 0


def _is_figure(value: object) -> bool:
    return value is None or _is_number(value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_shapes(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(shape, list) and all(map(_is_count, shape)) for shape in value.values()
    )


def _is_sizes(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_number, value.values()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


Kind = tuple[str, Callable[[object], bool]]
_COUNT: Kind = ("a whole number", _is_count)
_NUMBER: Kind = ("a number", _is_number)
_FIGURE: Kind = ("a number or null", _is_figure)
_MAPPING: Kind = ("an object", _is_mapping)
_SHAPES: Kind = ("an object of names and shapes", _is_shapes)
_SIZES: Kind = ("an object of names and numbers", _is_sizes)
_TEXT: Kind = ("text", _is_text)

_NEEDED: dict[str, dict[str, Kind]] = {
    "start": {"name": _TEXT},
    "step": {"step": _COUNT, "loss": _FIGURE, "seconds": _NUMBER},
    "stats": {"step": _COUNT, "seconds": _NUMBER, "stats": _MAPPING},
    "evaluation": {"step": _COUNT, "seconds": _NUMBER},
    "plan": {
        "step": _COUNT,
        "version": _COUNT,
        "levels": _MAPPING,
        "layer_bytes": _SIZES,
        "bytes": _NUMBER,
    },
    "end": {"steps": _COUNT, "seconds": _NUMBER},
}
_POSSIBLE: dict[str, dict[str, Kind]] = {
    "start": {
        "data": _TEXT,
        "ranks": _COUNT,
        "layers": _SHAPES,
        "settings": _MAPPING,
        "date": _TEXT,
        "versions": _MAPPING,
        "hardware": _MAPPING,
    },
    "evaluation": {"bytes_sent": _NUMBER},
    "plan": {"error": _NUMBER, "budget": _NUMBER, "lower_bound": _NUMBER, "estimates": _MAPPING},
    "end": {
        "stats": _MAPPING,
        "bytes_sent": _NUMBER,
        "loopback_bytes": _NUMBER,
        "compute_s": _NUMBER,
        "accuracy": _FIGURE,
        "loss": _FIGURE,
    },
}


def read_run_log(path: str | Path) -> Run:
    """The lines by event, also of a run that goes on: its last line may be half written.

    Raises StateError, with the line and the field, when something is not as it must be.
    """
    try:
        text = read_file(path, _MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise StateError(f"[run log] cannot read {path}: {error}") from error
    whole, _, _ = text.rpartition("\n")
    events: Run = {}
    for number, line in enumerate(whole.split("\n"), start=1):
        if line.strip():
            entry = _entry(line, f"[run log] {path}, line {number}")
            events.setdefault(entry["event"], []).append(entry)
    if "start" not in events:
        raise StateError(f"[run log] {path} has no 'start' line; is it the log of a run?")
    return events


def _entry(line: str, where: str) -> Line:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StateError(f"{where}: no JSON: {error}") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("event"), str):
        raise StateError(f"{where}: no object with an 'event'")
    event = entry["event"]
    needed, possible = _NEEDED.get(event, {}), _POSSIBLE.get(event, {})
    if event == "evaluation":  # whatever else it has is a figure
        possible = dict.fromkeys(entry.keys() - {"event"}, _FIGURE) | possible
    for field, (kind, is_valid) in {**needed, **possible}.items():
        if field not in entry and field in needed:
            raise StateError(f"{where}: '{event}' has no '{field}'")
        if field in entry and not is_valid(entry[field]):
            raise StateError(
                f"{where}: '{field}' of '{event}' is not {kind}: {shown(entry[field])}"
            )
    if event == "plan" and entry["levels"].keys() != entry["layer_bytes"].keys():
        raise StateError(f"{where}: 'levels' and 'layer_bytes' of 'plan' have other layers")
    return entry


def figure(line: Line, name: str) -> float:
    """Not a number where there is none."""
    value = line.get(name)
    return math.nan if value is None else float(value)


def plans_in_effect(run: Run) -> list[Line]:
    """The `plan` lines without one that would have held only after the last step."""
    steps = run["end"][-1]["steps"] if "end" in run else float("inf")
    return [plan for plan in run.get("plan", []) if plan["step"] < steps]
