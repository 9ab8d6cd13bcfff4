"""Averages that are not applied once: with the line that each story needs, compressed training does
what plain DDP does. docs/dropped_steps.md tells the stories.

The argument is a story; without one, all run.
"""

import copy
import sys
import warnings

import torch
from common import assert_same_on_all_ranks, mean_over_ranks, process_group
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel as DDP

import lgreco

METHODS = [
    "dense", "cast:bf16", "quantize:4", "quantize:2", "topk:0.01", "low_rank:2:min_ratio=1",
]  # fmt: skip


def batch(rank: int, step: int, inputs: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + rank)
    x = torch.randn(32, inputs, generator=generator)
    return x, x[:, :10].argmax(1)


def classifier(inputs: int = 64) -> DDP:
    torch.manual_seed(0)
    return DDP(nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 10)))


def gradient_norm(model: nn.Module) -> float:
    return torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()


def last_losses(losses: list[float]) -> float:
    return sum(losses[-10:]) / 10


def skipped_spike(method: lgreco.Method | None, rank: int) -> float:
    """How many steps are skipped when one batch is a thousand times too large."""
    model = classifier()
    compression = method and lgreco.compress(model, method, keep_previous=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    skipped, usual = 0, None
    for step in range(150):
        x, y = batch(rank, step)
        optimizer.zero_grad()
        functional.cross_entropy(model(x * (1000 if step == 60 else 1)), y).backward()
        norm = gradient_norm(model)
        if step > 20 and norm > 5 * usual:
            skipped += 1
            if compression:
                assert compression.discard_last_step()
            continue
        usual = norm if usual is None else max(0.9 * usual + 0.1 * norm, 1e-6)
        optimizer.step()
    return skipped


def rolled_back(method: lgreco.Method | None, rank: int) -> float:
    """The loss after weights were taken from before a batch that ruined them."""
    model = classifier()
    compression = method and lgreco.compress(model, method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses, saved = [], None
    for step in range(150):
        if step == 55:
            saved = copy.deepcopy(model.module.state_dict())
        x, y = batch(rank, step)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x * (1e18 if step == 60 else 1)), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 61:  # where it shows
            model.module.load_state_dict(saved)
            if compression:
                compression.reset()
    return last_losses(losses)


def generator_pass(method: lgreco.Method | None, rank: int) -> float:
    """A GAN: the generator's loss goes through the discriminator's DDP, whose gradient of that pass
    is thrown away. Returns the cosine of what is applied to it with the truth, over the last
    passes."""
    torch.manual_seed(0)
    discriminator = DDP(nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 1)))
    generator = DDP(nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 32)))
    compressed = method and (
        lgreco.compress(discriminator, method),
        lgreco.compress(generator, method),
    )
    of_d = torch.optim.SGD(discriminator.parameters(), lr=1e-3)
    of_g = torch.optim.SGD(generator.parameters(), lr=1e-3)
    parameters = list(discriminator.parameters())

    def of_discriminator(verdicts: torch.Tensor) -> torch.Tensor:
        real, fake = verdicts.split(32)
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    applied, truth = 0, 0
    for step in range(150):
        noise = torch.Generator().manual_seed(1000 * step + rank)
        real = torch.randn(32, 32, generator=noise) + 2
        fake = generator(torch.randn(32, 8, generator=noise))
        of_g.zero_grad()
        loss = functional.softplus(-discriminator(fake)).mean()
        if compressed:
            with compressed[0].paused():
                loss.backward()
        else:
            loss.backward()
        of_g.step()
        both = torch.cat([real, fake.detach()])
        local = torch.autograd.grad(of_discriminator(discriminator.module(both)), parameters)
        truth = truth + mean_over_ranks(torch.cat([g.flatten() for g in local]))
        of_d.zero_grad()
        of_discriminator(discriminator(both)).backward()
        applied = applied + torch.cat([p.grad.flatten() for p in parameters]).double()
        of_d.step()
    return functional.cosine_similarity(applied, truth, dim=0).item()


def sharpness_aware(method: lgreco.Method | None, rank: int) -> float:
    """The loss after training by SAM, whose first pass only says where to look."""
    model = classifier()
    compression = method and lgreco.compress(model, method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(200):
        x, y = batch(rank, step)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        if compression:
            with compression.paused():
                loss.backward()
        else:
            loss.backward()
        losses.append(loss.item())
        before = [p.detach().clone() for p in model.parameters()]
        norm = gradient_norm(model) + 1e-12
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * parameter.grad / norm
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), before, strict=True):
                parameter.copy_(old)
        optimizer.step()
    return last_losses(losses)


def other_weights(method: lgreco.Method | None, rank: int) -> float:
    """The loss when training goes on from other weights, and with another target, in the middle."""
    model = classifier()
    compression = method and lgreco.compress(model, method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in range(240):
        if step == 40:
            torch.manual_seed(7)
            for layer in (model.module[0], model.module[2]):
                layer.reset_parameters()
            if compression:
                compression.reset()
                assert compression.stats()["residual_norm"] == 0
        x, y = batch(rank, step)
        if step < 40:
            x = 300 * x
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert_same_on_all_ranks(list(model.parameters()), "other weights")
    return last_losses(losses)


def is_as_good(story: str, plain: float, compressed: float) -> bool:
    if story == "skipped_spike":
        return compressed == plain == 1
    if story == "generator_pass":
        return compressed > 0.9
    return compressed < plain + 0.25


STORIES = {
    function.__name__: function
    for function in (skipped_spike, rolled_back, generator_pass, sharpness_aware, other_weights)
}

with process_group() as (rank, _):
    warnings.simplefilter("ignore", RuntimeWarning)
    for story in sys.argv[1:] or STORIES:
        plain = STORIES[story](None, rank)
        for spelling in METHODS:
            compressed = STORIES[story](lgreco.method(spelling), rank)
            if rank == 0:
                print(f"{story} {spelling}: plain {plain:.3f}, compressed {compressed:.3f}")
            assert is_as_good(story, plain, compressed), (story, spelling, plain, compressed)
    if rank == 0:
        print("stories end well")
