"""What compression does, in the Trainer's loggers and in a log for `lgreco report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from lgreco.frontends.figures import Figures
from lgreco.run_log import RunLog


class LGreCoMonitor(Callback):
    """Logs figures of rank 0 as `lgreco/...`, every `log_every_n_steps` steps of the Trainer.

    With another strategy than `ddp_lgreco` it logs nothing.

    Args:
        run_log: a file for `lgreco report`, with the loss of each step and what validations log;
            `fit()` overwrites it.
    """

    def __init__(self, run_log: str | Path | None = None) -> None:
        self._path = run_log
        self._figures: Figures | None = None
        self._log: RunLog | None = None
        self._step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The compression's state is loaded."""
        compression = getattr(trainer.strategy, "compression", None)
        self._step = trainer.global_step
        if compression is not None:
            self._figures = Figures(compression)
            path = self._path if trainer.is_global_zero else None
            self._log = RunLog(path, compression=compression)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step or self._figures is None:
            return  # gradients are accumulated
        self._step = trainer.global_step
        if self._step % trainer.log_every_n_steps == 0:
            pl_module.log_dict(self._figures())
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self._path is not None and self._log is not None and loss is not None:
            self._log.step(float(loss), step=self._step)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._path is not None and self._log is not None and not trainer.sanity_checking:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self._log.evaluate(**{n: f for n, f in figures.items() if "lgreco/" not in n})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._log is not None:
            self._log.end()
