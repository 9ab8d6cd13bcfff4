"""Logs, written by training loops."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from lgreco.arguments import require_shape, require_text, require_whole, shown
from lgreco.codec import payload_bytes
from lgreco.errors import ConfigError, StateError
from lgreco.plan import Plan
from lgreco.run_log.machine import hardware, versions

STATS_EVERY = 10  # steps


class Compressed(Protocol):
    """What is read of a Compression."""

    @property
    def plan(self) -> Plan: ...
    @property
    def plan_version(self) -> int: ...
    @property
    def shapes(self) -> Mapping[str, Sequence[int]]: ...
    @property
    def settings(self) -> Mapping[str, object]: ...
    @property
    def ranks(self) -> int: ...
    def stats(self, *, wait: bool = ...) -> dict[str, Any]: ...


class RunLog:
    """Writes the log of a run, for `lgreco report` and `lgreco inspect`. Not thread-safe::

        with lgreco.RunLog("run.jsonl", compression=compression, settings={"lr": 0.1}) as log:
            for batch in batches:
                ...
                log.step(loss=loss.item())
            log.evaluate(accuracy=100 * hits / samples)

    Make it on every rank, just before the first step: rank 0 writes, by the environment's `RANK`.
    The run is finished when the block ends without an exception, or by `end()`; the log of one that
    is not can be reported all the same.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        compression: Compressed | None = None,
        settings: Mapping[str, object] | None = None,
        name: str | None = None,
        data: str = "",
        layers: Mapping[str, Sequence[int]] | None = None,
        ranks: int | None = None,
    ) -> None:
        """
        Args:
            path: is overwritten; StateError when it cannot be. None: nothing is written.
            compression: its plans are logged when they change, and its counters every ten steps,
                without waiting for a step in flight; method, policy and seed are settings.
            settings: anything that JSON can hold, such as rates and seeds.
            name: of the run in tables and plots (None: the file's).
            data: what the model is trained on.
            layers, ranks: names and shapes, and how many ranks there are: to compare a run without
                `compression`, such as plain DDP, by what a ring all-reduce would send.
        """
        self._compression = compression
        self._steps = 0
        self._plan_version = -1
        self._has_ended = False
        is_writer = path is not None and os.environ.get("RANK", "0") == "0"
        settings = _mapping("settings", settings)
        if compression is not None:
            settings = {**compression.settings, **settings}
            layers, ranks = compression.shapes, compression.ranks
        if ranks is not None:
            require_whole("[run log] ranks", ranks, least=1)
        self._shapes = {
            layer: require_shape(f"[run log] layer {shown(layer)}", shape)
            for layer, shape in _mapping("layers", layers).items()
        }
        about = {
            "name": require_text(
                "[run log] name", Path(path or "run").stem if name is None else name
            ),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "data": require_text("[run log] data", data),
            "layers": self._shapes,
            "settings": settings,
            "versions": versions(),
            "hardware": hardware(),
            **({} if ranks is None else {"ranks": ranks}),
        }
        start = _line("start", about)  # before anything of an older log is lost
        self._file = _opened(path) if is_writer and path is not None else None
        self._write(start)
        self._begin = self._last = time.perf_counter()
        self._write_new_plan()

    def step(
        self,
        loss: float,
        *,
        step: int | None = None,
        seconds: float | None = None,
        **figures: float,
    ) -> None:
        """After a step, of which this is the training loss on this rank.

        `step`: how many steps are done (None: one more than before). `seconds` of training until
        now (None: since the log was made, without evaluations). Raises ConfigError when a figure
        is no number, or the steps do not go forward.
        """
        steps = self._steps + 1 if step is None else step
        if isinstance(steps, bool) or not isinstance(steps, int) or steps <= self._steps:
            raise ConfigError(
                f"[run log] step is {shown(steps)}; it must be a whole number above the last "
                f"step's, {self._steps}"
            )
        self._steps = steps
        self._last = time.perf_counter()
        seconds = self._seconds(seconds)
        self._log("step", step=steps, seconds=seconds, loss=loss, **figures)
        self._write_new_plan()
        if self._compression is not None and self._file and steps % STATS_EVERY == 0:
            self.stats(self._compression.stats(wait=False), seconds=seconds)

    def stats(self, stats: Mapping[str, object], *, seconds: float | None = None) -> None:
        """What `Compression.stats()` gave after the last step; `Compression.log_to` calls it."""
        counted = _mapping("stats", stats)
        values = {"step": self._steps, "seconds": self._seconds(seconds), "stats": counted}
        self._write(_line("stats", values))

    def evaluate(self, *, seconds: float | None = None, **figures: float) -> None:
        """After the model was evaluated, with figures such as `accuracy`, in percent, and `loss`.

        The time since the last step counts as evaluation's. `bytes_sent` by this rank so far is
        logged with a compression by itself.
        """
        if self._file and self._compression is not None:
            figures.setdefault("bytes_sent", self._compression.stats()["bytes_sent"])
        self._log("evaluation", step=self._steps, seconds=self._seconds(seconds), **figures)
        self._begin += time.perf_counter() - self._last
        self._last = time.perf_counter()

    def end(self, *, seconds: float | None = None, **figures: Any) -> None:
        """The run is finished; nothing is logged after it. Figures as in `evaluate`."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._file and self._compression is not None:
            figures.setdefault("stats", self._compression.stats())
        values = {"steps": self._steps, "seconds": self._seconds(seconds), **figures}
        self._write(_line("end", values))

    def close(self) -> None:
        """End the run, if that was not said, and the file."""
        self.end()
        self._close()

    def _close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.end()
        self._close()

    def _seconds(self, given: float | None) -> float:
        return self._last - self._begin if given is None else given

    def _write_new_plan(self) -> None:
        """Asking for a plan waits for the step, so only for one that is new."""
        if self._compression is None or not self._file:
            return
        if self._compression.plan_version != self._plan_version:
            plan = self._compression.plan
            self._plan_version = plan.version
            self.plan(plan)

    def plan(self, plan: Plan) -> None:
        """Of a run whose `compression` is not here. Raises ConfigError unless its layers are."""
        unknown = [layer for layer in plan if layer not in self._shapes]
        if unknown:
            raise ConfigError(
                f"[run log] the plan has {shown(unknown[0])}, which is none of the layers"
            )
        layer_bytes = {layer: payload_bytes(m, self._shapes[layer]) for layer, m in plan.items()}
        self._write(_line("plan", {"layer_bytes": layer_bytes, **plan.to_dict()}))

    def _log(self, event: str, **figures: float) -> None:
        self._write(_line(event, {name: _number(event, name, v) for name, v in figures.items()}))

    def _write(self, line: str) -> None:
        if self._file:
            self._file.write(line)
            self._file.flush()


def _opened(path: str | Path) -> TextIO:
    try:
        return Path(path).open("w", encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        raise StateError(f"[run log] cannot write {shown(str(path))}: {error}") from error


def _mapping(name: str, value: object) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"[run log] {name} must be a mapping, not {shown(value)}")
    return dict(value or {})


def _number(event: str, name: str, value: object) -> float | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if not isinstance(value, str | bytes | bool):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several
        pass
    raise ConfigError(f"[run log] {name} of '{event}' is no number: {shown(value)}")


def _line(event: str, values: Mapping[str, object]) -> str:
    """Raises ConfigError on what JSON cannot hold."""
    try:
        return json.dumps({"event": event, **finite(values)}, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"[run log] '{event}' cannot be written as JSON: {error}") from error


def finite(value: Any) -> Any:
    """Null for what is not finite: JSON has no word for it."""
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
