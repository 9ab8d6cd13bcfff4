"""What compression does, in the Trainer's loggers."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from lgreco.frontends.figures import figures_of


class LGreCoMonitor(Callback):
    """Logs figures of this rank as `lgreco/...`, every `log_every_n_steps` steps of the Trainer.

    Needs the strategy `ddp_lgreco`; with another one it logs nothing.
    """

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: object) -> None:
        compression = getattr(trainer.strategy, "compression", None)
        if compression is not None and trainer.global_step % trainer.log_every_n_steps == 0:
            pl_module.log_dict(figures_of(compression))
