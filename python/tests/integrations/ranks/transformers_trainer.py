"""Transformers' Trainer."""

from __future__ import annotations

import trial
from task import LEVEL, POLICY, Classifier, items
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from lgreco.transformers import LGreCoTrainer


def fit(epochs, *, seed, exact, save, resume):
    arguments = TrainingArguments(
        output_dir=str(save or trial.FOLDER / "none"),
        use_cpu=True,
        bf16=True,
        num_train_epochs=epochs,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        max_grad_norm=1.0,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        optim="sgd",
        optim_args="momentum=0.9",
        train_sampling_strategy="sequential",
        save_strategy="epoch" if save else "no",
        logging_steps=5,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = LGreCoTrainer(
        model=Classifier(),
        args=arguments,
        train_dataset=items(seed),
        method=LEVEL,
        policy=POLICY,
        exact_checkpoints=exact,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(resume)) if resume else None)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["lgreco/ratio"] > 0 for entry in logged) and logged, trainer.state.log_history
    return trainer.model.network, trainer.compression


trial.main(fit)
