"""What `Compression.log_to` writes to: experiment trackers, by the methods that they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lgreco.arguments import require_whole
from lgreco.counters import Stats, scalars
from lgreco.errors import ConfigError
from lgreco.run_log import RunLog

Write = Callable[[Stats, Stats], None]  # of now, and of the time before


@dataclass
class _Target:
    write: Write
    every: int
    since: Stats


class Logs:
    """Writes to each target every so many steps. Not thread-safe."""

    def __init__(self) -> None:
        self._targets: list[_Target] = []

    def add(self, writer: object, every: int, run_id: str | None, now: Stats) -> None:
        """From `now` on. Nothing for None. Raises ConfigError on what is no writer."""
        require_whole("[log_to] every", every, least=1)
        if writer is not None:
            self._targets.append(_Target(_write_to(writer, run_id), int(every), now))

    def restart(self, now: Stats) -> None:
        """The counters are another run's."""
        for target in self._targets:
            target.since = now

    def before_pass(self, latest: Callable[[], Stats]) -> None:
        if not self._targets:
            return
        now = latest()
        for target in self._targets:
            if now["steps"] - target.since["steps"] >= target.every:
                target.write(now, target.since)
                target.since = now


def _write_to(writer: Any, run_id: str | None) -> Write:
    """Told apart by what they can do, so that no package is needed but the writer's own."""
    if isinstance(writer, RunLog):
        return lambda now, since: writer.stats(now)
    if _has(writer, "add_scalar"):  # torch.utils.tensorboard.SummaryWriter
        return lambda now, since: _add_scalars(writer, now, since)
    if _has(writer, "define_metric", "log"):  # wandb, or what wandb.init() gave
        # An axis of its own: wandb drops what is logged for an earlier one of its own steps.
        writer.define_metric("lgreco/step")
        writer.define_metric("lgreco/*", step_metric="lgreco/step")
        return lambda now, since: writer.log({**scalars(now, since), "lgreco/step": now["steps"]})
    if _has(writer, "log_metrics"):  # mlflow, or a logger of Lightning's
        return lambda now, since: writer.log_metrics(scalars(now, since), step=now["steps"])
    if _has(writer, "log_metric", "get_run"):  # mlflow.MlflowClient
        if run_id is None:
            raise ConfigError("[log_to] an MlflowClient needs the run: log_to(client, run_id=...)")
        return lambda now, since: _log_metrics(writer, run_id, now, since)
    raise ConfigError(
        f"[log_to] cannot write to a {type(writer).__name__}; pass a "
        "torch.utils.tensorboard.SummaryWriter, a wandb run, the module mlflow, an MlflowClient, "
        "an lgreco.RunLog, or None on ranks that have none"
    )


def _has(writer: object, *methods: str) -> bool:
    return all(callable(getattr(writer, method, None)) for method in methods)


def _add_scalars(writer: Any, now: Stats, since: Stats) -> None:
    for name, value in scalars(now, since).items():
        writer.add_scalar(name, value, now["steps"])


def _log_metrics(client: Any, run_id: str, now: Stats, since: Stats) -> None:
    for name, value in scalars(now, since).items():
        client.log_metric(run_id, name, value, step=now["steps"])
