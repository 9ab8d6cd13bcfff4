"""What compression does, in the Trainer's loggers."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

FIGURES = ("ratio", "bytes_sent", "encode_s", "decode_s", "wait_s", "residual_norm")


class LGreCoMonitor(Callback):
    """Logs figures of this rank as `lgreco/...`, every `log_every_n_steps` steps of the Trainer.

    Needs the strategy `ddp_lgreco`; with another one it logs nothing.
    """

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: object) -> None:
        compression = getattr(trainer.strategy, "compression", None)
        if compression is None or trainer.global_step % trainer.log_every_n_steps:
            return
        stats = compression.stats()
        pl_module.log_dict({f"lgreco/{name}": float(stats[name]) for name in FIGURES})
