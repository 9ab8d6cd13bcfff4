"""Lightning's Trainer."""

from __future__ import annotations

import os

import lightning.pytorch as pl
import trial
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_module import Module
from task import LEVEL, POLICY, examples
from torch.utils.data import DataLoader

from lgreco.lightning import LGreCoStrategy


def fit(epochs, *, seed, exact, save, resume):
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(os.environ["WORLD_SIZE"]),
        strategy=LGreCoStrategy(LEVEL, POLICY, exact_checkpoints=exact),
        precision="bf16-mixed",
        max_epochs=epochs,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=save is not None,
        callbacks=[ModelCheckpoint(save, filename="last")] if save else [],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Module()
    data = DataLoader(examples(seed), batch_size=8, shuffle=False)
    trainer.fit(model, data, ckpt_path=resume / "last.ckpt" if resume else None)
    return model.network, trainer.strategy.compression


trial.main(fit)
