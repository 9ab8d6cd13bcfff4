"""A training loop with Fabric."""

from __future__ import annotations

import os

import torch
import trial
from lightning.fabric import Fabric
from task import LEVEL, POLICY, examples, network
from torch import nn
from torch.utils.data import DataLoader

from lgreco.lightning import LGreCoFabricStrategy


def fit(epochs, *, seed, exact, save, resume):
    fabric = Fabric(
        accelerator="cpu",
        devices=int(os.environ["WORLD_SIZE"]),
        strategy=LGreCoFabricStrategy(LEVEL, POLICY, exact_checkpoints=exact),
        precision="bf16-mixed",
    )
    fabric.launch()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model, optimizer = fabric.setup(model, optimizer)
    data = fabric.setup_dataloaders(DataLoader(examples(seed), batch_size=8, shuffle=False))
    state = {"model": model, "optimizer": optimizer, "epoch": 0}
    if resume:
        assert fabric.load(resume / "state.ckpt", state) == {}
    for _ in range(state["epoch"], epochs):
        for index, (x, y) in enumerate(data):
            accumulates = index % 2 == 0
            with fabric.no_backward_sync(model, enabled=accumulates):
                fabric.backward(nn.functional.cross_entropy(model(x), y) / 2)
            if not accumulates:
                fabric.clip_gradients(model, optimizer, max_norm=1.0)
                optimizer.step()
                optimizer.zero_grad()
    if save:
        fabric.save(save / "state.ckpt", state | {"epoch": epochs})
    (compression,) = fabric.strategy.compressions
    return model.module, compression


trial.main(fit)
