"""A training loop with Accelerate."""

from __future__ import annotations

import torch
import trial
from accelerate import Accelerator
from accelerate.utils import set_seed
from task import LEVEL, POLICY, examples, network
from torch import nn
from torch.utils.data import DataLoader

import lgreco.accelerate


def fit(epochs, *, seed, exact, save, resume):
    set_seed(0)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
    model = network()
    model, optimizer, data = accelerator.prepare(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        DataLoader(examples(seed), batch_size=8, shuffle=False),
    )
    compression = lgreco.accelerate.compress(
        accelerator, model, LEVEL, POLICY, exact_checkpoints=exact
    )
    done = 0
    if resume:
        accelerator.load_state(resume)
        done = trial.EPOCHS // 2
    for _ in range(done, epochs):
        for x, y in data:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(x), y))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    if save:
        accelerator.save_state(save)
    return accelerator.unwrap_model(model, keep_fp32_wrapper=False), compression


trial.main(fit)
