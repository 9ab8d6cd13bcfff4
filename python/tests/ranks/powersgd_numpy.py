"""The hook's PowerSGD against the algorithm written in NumPy, step by step."""

import numpy as np
import torch
from common import process_group
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lgreco

ROWS, COLS, RANK, STEPS = 40, 60, 3, 12


def gradient(rank, step):
    return np.random.default_rng([rank, step]).standard_normal((ROWS, COLS))


def powersgd_step(gradients, residuals, q):
    """Vogels et al. 2019, algorithm 1, on all ranks at once, in float64."""
    matrices = [g + e for g, e in zip(gradients, residuals, strict=True)]
    p, _ = np.linalg.qr(np.mean([m @ q for m in matrices], axis=0))
    q = np.mean([m.T @ p for m in matrices], axis=0)
    average = p @ q.T
    return average, [m - average for m in matrices], q


with process_group() as (rank, size):
    ddp = DistributedDataParallel(nn.Linear(COLS, ROWS, bias=False))
    compression = lgreco.compress(ddp, lgreco.PowerSGD(RANK, min_ratio=1), seed=5)
    for step in range(STEPS):
        ddp.zero_grad()
        # A loss whose gradient is exactly what we want on this rank.
        wanted = torch.tensor(gradient(rank, step), dtype=torch.float32)
        (ddp(torch.eye(COLS)).T * wanted).sum().backward()
        state = compression.state_dict()["layers"]["weight"]
        result = ddp.module.weight.grad.double().numpy()
        if step == 0:  # the first factor is drawn inside; from here on both have the same state
            residuals = [gradient(r, 0) - result for r in range(size)]
            q = state["factor"].double().numpy().T
            continue
        expected, residuals, q = powersgd_step(
            [gradient(r, step) for r in range(size)], residuals, q
        )
        # float32 sums of up to 60 terms of size 1
        np.testing.assert_allclose(result, expected, atol=2e-5 * np.abs(expected).max())
        np.testing.assert_allclose(
            state["residual"].numpy(), residuals[rank], atol=2e-5 * np.abs(residuals[rank]).max()
        )
    if rank == 0:
        print(f"agrees with NumPy over {STEPS} steps on {size} ranks")
