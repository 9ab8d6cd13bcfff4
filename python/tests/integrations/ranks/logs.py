"""Figures of compression reach TensorBoard by the loggers of Lightning and of Transformers, and the
logs of both can be reported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_module import Module
from task import LEVEL, POLICY, Classifier, examples, items
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from lgreco.lightning import LGreCoMonitor, LGreCoStrategy
from lgreco.run_log import read_run_log
from lgreco.transformers import LGreCoTrainer

EPOCHS = 3
folder = Path(sys.argv[1])


def by_lightning():
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(os.environ["WORLD_SIZE"]),
        strategy=LGreCoStrategy(LEVEL, POLICY),
        max_epochs=EPOCHS,
        log_every_n_steps=6,
        logger=TensorBoardLogger(folder / "lightning"),
        callbacks=[LGreCoMonitor(run_log=folder / "lightning.jsonl")],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), DataLoader(examples(), batch_size=8))
    return trainer.strategy.compression, ""


def by_transformers():
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "transformers")
    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        use_cpu=True,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=8,
        learning_rate=0.1,
        save_strategy="no",
        logging_steps=6,
        report_to=["tensorboard"],
        disable_tqdm=True,
    )
    trainer = LGreCoTrainer(
        model=Classifier(),
        args=arguments,
        train_dataset=items(),
        method=LEVEL,
        policy=POLICY,
        run_log=folder / "transformers.jsonl",
    )
    trainer.train()
    return trainer.compression, "train/"


def scalars_in(files: Path, name: str) -> list[tuple[int, float]]:
    found = []
    for file in files.rglob("events.out.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        if name in events.Tags()["scalars"]:
            found += [(event.step, event.value) for event in events.Scalars(name)]
    return found


for framework, train in {"lightning": by_lightning, "transformers": by_transformers}.items():
    compression, prefix = train()
    if os.environ["RANK"] == "0":
        sent = scalars_in(folder / framework, f"{prefix}lgreco/per_step/bytes_sent")
        assert len(sent) == 3 and all(value > 0 for _, value in sent), (framework, sent)
        total = 6 * sum(value for _, value in sent)
        assert 0.7 < total / compression.stats()["bytes_sent"] < 1.3, (framework, sent)
        ratios = scalars_in(folder / framework, f"{prefix}lgreco/ratio")
        assert ratios[-1][1] > 1.5, (framework, ratios)
        log = read_run_log(folder / f"{framework}.jsonl")
        assert log["start"][0]["settings"]["method"] == LEVEL, log["start"]
        assert len(log["step"]) in (3, 18), log["step"]  # what is logged, or each step
if os.environ["RANK"] == "0":
    print("logged by each framework")
