"""The log of a training run: one JSON object a line, readable while the run goes on.

Lines by their `event`:

* `start`: `name`, `data`, `ranks`, `layers` (name -> shape), `settings`
* `step`: `step` (steps done), `loss` (rank 0's, training)
* `evaluation`: `step`, `accuracy` (percent), `loss`, `bytes_sent` (by one rank so far)
* `plan`: `step` (of effect), `version`, `levels` (layer -> spelling), `layer_bytes` (layer ->
  payload bytes), `bytes`, `error`, `budget`, `lower_bound`
* `end`: `steps`, `seconds` (training only), `compute_s` (a step without communication),
  `bytes_sent`, `loopback_bytes` (per rank), `accuracy`, `loss`, `stats` (of `Compression.stats()`)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lgreco.codec import payload_bytes
from lgreco.errors import StateError
from lgreco.plan import Plan

Line = dict[str, Any]  # as JSON holds it
Run = dict[str, list[Line]]  # by event


class RunLog:
    """Writes a log; with `path` None, as on ranks other than 0, writes nothing."""

    def __init__(self, path: str | Path | None) -> None:
        self._file = path and Path(path).open("w", encoding="utf-8")  # noqa: SIM115 (see close)
        self._shapes: dict[str, list[int]] = {}

    def start(
        self,
        name: str,
        data: str,
        ranks: int,
        layers: Mapping[str, Sequence[int]],
        settings: Mapping[str, object],
    ) -> None:
        self._shapes = {layer: list(shape) for layer, shape in layers.items()}
        self._write(
            "start",
            name=name,
            data=data,
            ranks=ranks,
            layers=self._shapes,
            settings=dict(settings),
        )

    def step(self, step: int, loss: float) -> None:
        self._write("step", step=step, loss=loss)

    def evaluation(self, step: int, accuracy: float, loss: float, bytes_sent: float) -> None:
        self._write("evaluation", step=step, accuracy=accuracy, loss=loss, bytes_sent=bytes_sent)

    def plan_if_new(self, plan: Plan, last_version: int) -> int:
        """Write the plan unless its version is `last_version`; returns its version."""
        if plan.version != last_version:
            layer_bytes = {name: payload_bytes(m, self._shapes[name]) for name, m in plan.items()}
            self._write("plan", layer_bytes=layer_bytes, **plan.to_dict())
        return plan.version

    def end(self, **summary: object) -> None:
        self._write("end", **summary)

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _write(self, event: str, **values: object) -> None:
        if self._file:
            self._file.write(json.dumps({"event": event, **values}) + "\n")
            self._file.flush()


def read_run_log(path: str | Path) -> Run:
    """The lines by event. Raises StateError when the file is no run log with a start."""
    events: Run = {}
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            events.setdefault(entry["event"], []).append(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"[run log] cannot read {path}: {error}") from error
    if "start" not in events:
        raise StateError(f"[run log] {path} has no 'start' line; is it the log of a run?")
    return events


def plans_in_effect(run: Run) -> list[Line]:
    """The `plan` lines without one that would have held only after the last step."""
    steps = run["end"][-1]["steps"] if "end" in run else float("inf")
    return [plan for plan in run.get("plan", []) if plan["step"] < steps]
