"""Each framework's own scaler of losses reaches the compression.

Accelerate, and with it Transformers, refuses fp16 on the CPU: there the scaler is put in its place
by hand.
"""

from __future__ import annotations

import os
import tempfile

import lightning.pytorch as pl
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision as FabricMixedPrecision
from lightning.pytorch.plugins import MixedPrecision
from lightning_module import Module
from task import LEVEL, POLICY, Classifier, examples, items, loss_of, network
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainingArguments

import lgreco.accelerate
from lgreco.lightning import LGreCoFabricStrategy, LGreCoStrategy
from lgreco.transformers import LGreCoTrainer

EPOCHS, STEPS = 3, 18
RANKS = int(os.environ["WORLD_SIZE"])


def new_scaler() -> torch.amp.GradScaler:
    """Whose scale grows at steps 4, 8, 12 and 16 of 18."""
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)


def data():
    return DataLoader(examples(), batch_size=8)


def of_lightning():
    plugin = MixedPrecision("16-mixed", "cpu", new_scaler())
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=RANKS,
        strategy=LGreCoStrategy(LEVEL, POLICY),
        plugins=[plugin],
        max_epochs=EPOCHS,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Module()
    trainer.fit(module, data())
    return module.network, trainer.strategy.compression, plugin.scaler


def of_fabric():
    plugin = FabricMixedPrecision("16-mixed", "cpu", new_scaler())
    fabric = Fabric(
        accelerator="cpu",
        devices=RANKS,
        strategy=LGreCoFabricStrategy(LEVEL, POLICY),
        plugins=[plugin],
    )
    fabric.launch()
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    loader = fabric.setup_dataloaders(data())
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            fabric.backward(nn.functional.cross_entropy(model(x), y))
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
    return model.module, fabric.strategy.compressions[0], plugin.scaler


def of_accelerate():
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = new_scaler()
    model = network()
    model, optimizer, loader = accelerator.prepare(
        model, torch.optim.SGD(model.parameters(), lr=0.1), data()
    )
    compression = lgreco.accelerate.compress(accelerator, model, LEVEL, POLICY)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
    return model.module, compression, accelerator.scaler


class ScalingTrainer(LGreCoTrainer):
    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        self.accelerator.scaler = new_scaler()


def of_transformers():
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=8,
        max_grad_norm=0.0,
        learning_rate=0.1,
        optim="sgd",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = ScalingTrainer(
        model=Classifier(), args=arguments, train_dataset=items(), method=LEVEL, policy=POLICY
    )
    trainer.train()
    return trainer.model.network, trainer.compression, trainer.accelerator.scaler


for train in (of_lightning, of_fabric, of_accelerate, of_transformers):
    before = loss_of(network())
    model, compression, scaler = train()
    assert scaler.get_scale() == 2.0**14, (train, scaler.get_scale())
    state, stats = compression.state_dict(), compression.stats()
    assert state["grad_scale"] == scaler.get_scale(), (train, state["grad_scale"])
    assert stats["steps"] == STEPS and stats["dropped_residuals"] == 0, (train, stats)
    assert loss_of(model) < before / 1.2, (train, before, loss_of(model))
if os.environ["RANK"] == "0":
    print("scaled by each framework")
